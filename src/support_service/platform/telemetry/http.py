"""HTTP metrics by the semantic conventions: the requests of clients, and the requests to other servers."""

from time import perf_counter
from types import SimpleNamespace
from typing import Any

import aiohttp

from support_service.platform.telemetry.instruments import OTHER, Instruments, InstrumentSpec, Observations, Series
from support_service.platform.telemetry.stores import OTHER_ERROR

# Scrapes and probes arrive every few seconds and would hide the latency that clients see.
UNMEASURED_PATHS = frozenset({"/metrics", "/livez", "/readyz", "/health"})

PROBE_USER_AGENT = "support-service-probe/"  # the beginning of the User-Agent of `support-service probe`

OTHER_METHOD = "_OTHER"  # the semantic conventions' fallback value
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", OTHER_METHOD)
SCHEMES = ("http", "https")
HTTP_SERVER_DURATION = InstrumentSpec(
    "http.server.request.duration",
    "histogram",
    "s",
    "Time to answer a request; of a download, to its last byte; of a stream of changes, to its first. A request that "
    "matches no route, or that can't be parsed, has the method _OTHER",
    {
        "http.request.method": METHODS,
        "http.route": None,
        "http.response.status_code": None,
        "url.scheme": SCHEMES,
        "error.type": None,
    },
    # The boundaries that the semantic conventions advise for this instrument, and the alert's threshold of 2 s.
    (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0, 2.5, 5.0, 7.5, 10.0),
)
HTTP_CLIENT_DURATION = InstrumentSpec(
    "http.client.request.duration",
    "histogram",
    "s",
    "Time until another server answers a webhook delivery or a request for `SUPPORT_JWT_KEYS`; calls to upstream "
    "services are support.timeline.source",
    {
        "http.request.method": METHODS,
        "server.address": None,
        "server.port": None,
        "http.response.status_code": None,
        "error.type": None,
    },
    # The boundaries that the semantic conventions advise for this instrument, and the timeout of a delivery.
    (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0),
)
HTTP_SERVER_ACTIVE = InstrumentSpec(
    "http.server.active_requests",
    "observed sum",
    "{request}",
    "Requests in progress",
    {"http.request.method": METHODS, "url.scheme": SCHEMES},
)
REQUEST_RECEIVED = InstrumentSpec(
    "support.request.received",
    "counter",
    "{request}",
    "Requests except health checks and scrapes, by sender: probe (`support-service probe`, by its User-Agent), other",
    {"synthetic": ("probe", "other")},
)


class RequestMetrics:
    """Recorder of request metrics. `route` is a route template, or None if no route matched.

    `scheme`, one of SCHEMES, is the scheme of the client's request, which a proxy may have received over TLS.
    """

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._received_from_probe = instruments.start_series(REQUEST_RECEIVED, {"synthetic": "probe"})
        self._received_from_others = instruments.start_series(REQUEST_RECEIVED, {"synthetic": "other"})
        self._durations: dict[tuple[str, str | None, int, str, str | None], Series] = {}
        self._active = {(method, scheme): 0 for method in METHODS for scheme in SCHEMES}

    def create_series(self, method: str, route: str, status: int, scheme: str = "http") -> None:
        if route not in UNMEASURED_PATHS:
            self._instruments.start_series(
                HTTP_SERVER_DURATION, _series_labels(method, route, status, {"url.scheme": scheme})
            )

    def begin(self, method: str, route: str | None, scheme: str, user_agent: str) -> None:
        """Count a request as received and as active; the caller must call `end` afterwards."""
        if route not in UNMEASURED_PATHS:
            is_probe = user_agent.startswith(PROBE_USER_AGENT)
            (self._received_from_probe if is_probe else self._received_from_others).record(1)
            self._active[_method_label(method, route), scheme] += 1

    def end(
        self, method: str, route: str | None, status: int, seconds: float, *, scheme: str, error: str | None = None
    ) -> None:
        """Record a finished request and its duration in seconds.

        `error` names a failure that the status does not show, such as a client disconnect.
        """
        if route in UNMEASURED_PATHS:
            return
        method = _method_label(method, route)
        self._active[method, scheme] -= 1
        key = method, route, status, scheme, error
        series = self._durations.get(key)
        if series is None:
            labels = {"url.scheme": scheme} | ({"error.type": error} if error else {})
            series = self._instruments.start_series(
                HTTP_SERVER_DURATION, _series_labels(method, route or OTHER, status, labels)
            )
            self._durations[key] = series
        series.record(seconds)

    def record_unreadable(self, status: int) -> None:
        """Record a request that could not be parsed, so that its method and route are unknown."""
        self._instruments.record(
            HTTP_SERVER_DURATION, 0.0, _series_labels(OTHER_METHOD, OTHER, status, {"url.scheme": "http"})
        )

    def active(self) -> Observations:
        """Return the number of active requests by method and scheme."""
        # Plain integers that are read at each scrape: two calls of an instrument would cost each request 12 us.
        return [
            (number, {"http.request.method": method, "url.scheme": scheme})
            for (method, scheme), number in self._active.items()
        ]


def _series_labels(method: str, route: str, status: int, others: dict[str, str]) -> dict[str, str | int]:
    labels: dict[str, str | int] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        **others,
    }
    if status >= 500:  # noqa: PLR2004 - HTTP's own boundary
        labels.setdefault("error.type", str(status))
    return labels


def _method_label(method: str, route: str | None) -> str:
    """Return the method's label; without a matching route it is `_OTHER`, since it would only multiply the series."""
    return method if route is not None and method in METHODS else OTHER_METHOD


def client_metrics(instruments: Instruments) -> aiohttp.TraceConfig:
    """Return a trace configuration that records each request of a client session, until the headers of its response.

    The address is taken from the URL: for sessions whose URLs come from the configuration only.
    """

    async def start(_session: aiohttp.ClientSession, context: SimpleNamespace, _: Any) -> None:
        context.measured_from = perf_counter()

    def record(context: SimpleNamespace, params: Any, outcome: dict[str, str | int]) -> None:
        attributes = {
            "http.request.method": params.method,
            "server.address": params.url.host or "",
            "server.port": params.url.port or 0,
        }
        instruments.record(HTTP_CLIENT_DURATION, perf_counter() - context.measured_from, attributes | outcome)

    async def end(
        _session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestEndParams
    ) -> None:
        status = params.response.status
        error: dict[str, str | int] = {"error.type": str(status)} if status >= 400 else {}  # noqa: PLR2004 - HTTP's own
        record(context, params, {"http.response.status_code": status, **error})

    async def fail(
        _session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestExceptionParams
    ) -> None:
        record(context, params, {"error.type": _error_type(params.exception)})

    config = aiohttp.TraceConfig()
    config.on_request_start.append(start)
    config.on_request_end.append(end)
    config.on_request_exception.append(fail)
    return config


def _error_type(failure: BaseException) -> str:
    """Return the label of a request without a response, from a closed set of values."""
    if isinstance(failure, TimeoutError):
        return "timeout"
    if isinstance(failure, aiohttp.ClientSSLError):
        return "tls"
    if isinstance(failure, aiohttp.ClientConnectionError | OSError):
        return "connection"
    return OTHER_ERROR
