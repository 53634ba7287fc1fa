"""HTTP server metrics by the semantic conventions: request duration and active requests, with closed label values."""

from opentelemetry.metrics import Counter, Histogram

from support_service.telemetry.instruments import EMPTY_MEASUREMENT, Observations
from support_service.telemetry.instruments.http import METHODS, OTHER_METHOD
from support_service.telemetry.labels import OTHER

# Scrapes and probes arrive every few seconds and would hide the latency that clients see.
UNMEASURED_PATHS = frozenset({"/metrics", "/livez", "/readyz", "/health"})


PROBE_USER_AGENT = "support-service-probe/"  # the beginning of the User-Agent of `support-service probe`
FROM_PROBE, FROM_OTHERS = {"synthetic": "probe"}, {"synthetic": "other"}


class RequestMetrics:
    """Recorder of request metrics. `route` is a route template, or None if no route matched."""

    def __init__(self, duration: Histogram, received: Counter) -> None:
        self._duration = duration
        self._received = received
        self._active = dict.fromkeys(METHODS, 0)

    def expect(self, method: str, route: str, status: int) -> None:
        """Create a series with the value 0 before its first request."""
        if route not in UNMEASURED_PATHS:
            self._record(method, route, status, EMPTY_MEASUREMENT, None)

    def begin(self, method: str, route: str | None, user_agent: str) -> None:
        """Count a request as received and as active; the caller must call `end` afterwards."""
        if route not in UNMEASURED_PATHS:
            self._received.add(1, FROM_PROBE if user_agent.startswith(PROBE_USER_AGENT) else FROM_OTHERS)
            self._active[_method(method, route)] += 1

    def end(self, method: str, route: str | None, status: int, seconds: float, error: str | None = None) -> None:
        """Record a finished request and its duration in seconds.

        `error` names a failure that the status does not show, such as a client disconnect.
        """
        if route in UNMEASURED_PATHS:
            return
        method = _method(method, route)
        self._active[method] -= 1
        self._record(method, route or OTHER, status, seconds, error)

    def refuse(self, status: int) -> None:
        """Record a request that could not be parsed, so that its method and route are unknown."""
        self._record(OTHER_METHOD, OTHER, status, 0.0, None)

    def active(self) -> Observations:
        """Return the number of active requests by method."""
        # Plain integers that are read at each scrape: two calls of an instrument would cost each request 12 us.
        return [
            (number, {"http.request.method": method, "url.scheme": "http"}) for method, number in self._active.items()
        ]

    def _record(self, method: str, route: str, status: int, seconds: float, error: str | None) -> None:
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        }
        if error or status >= 500:  # noqa: PLR2004 - HTTP's own boundary
            attributes["error.type"] = error or str(status)
        self._duration.record(seconds, attributes)


def _method(method: str, route: str | None) -> str:
    """Return the method's label; without a matching route it is `_OTHER`, since it would only multiply the series."""
    return method if route is not None and method in METHODS else OTHER_METHOD
