"""Requests as the semantic conventions see them: how long each took, and how many are in work, with closed labels."""

from opentelemetry.metrics import Histogram

from support_service.telemetry.instruments import NOTHING, Reading
from support_service.telemetry.labels import METHODS, OTHER, OTHER_METHOD

# Scrapes and probes come every few seconds for ever: they would drown what clients see.
UNMEASURED = frozenset({"/metrics", "/livez", "/readyz", "/health"})


class RequestMetrics:
    """Records one request at a time. `route` is a template, or None where no route matched."""

    def __init__(self, duration: Histogram) -> None:
        self._duration = duration
        self._active = dict.fromkeys(METHODS, 0)

    def expect(self, method: str, route: str, status: int) -> None:
        """Let a series stand at 0 before its first request."""
        if route not in UNMEASURED:
            self._record(method, route, status, NOTHING, None)

    def begin(self, method: str, route: str | None) -> None:
        """Count a request as in work; `end` must follow."""
        if route not in UNMEASURED:
            self._active[_method(method, route)] += 1

    def end(self, method: str, route: str | None, status: int, seconds: float, error: str | None = None) -> None:
        """Count a request as done. `error` names what broke where no status tells it, as when the client left."""
        if route in UNMEASURED:
            return
        method = _method(method, route)
        self._active[method] -= 1
        self._record(method, route or OTHER, status, seconds, error)

    def refuse(self, status: int) -> None:
        """Count a request that could not be read: neither its method nor its route is known."""
        self._record(OTHER_METHOD, OTHER, status, 0.0, None)

    def active(self) -> Reading:
        """The requests in work, by method."""
        # Kept as plain numbers and read at a scrape: an instrument's two calls would cost a request 12 us.
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
    """The method's label; where no route matched it says nothing about the service, and would only multiply series."""
    return method if route is not None and method in METHODS else OTHER_METHOD
