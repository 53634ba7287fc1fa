"""Requests as the semantic conventions see them: one histogram, with closed labels."""

from opentelemetry.metrics import Histogram

from support_service.telemetry.instruments import NOTHING
from support_service.telemetry.labels import METHODS, OTHER

# Scrapes and probes come every few seconds for ever: they would drown what clients see.
UNMEASURED = frozenset({"/metrics", "/livez", "/readyz", "/health"})


class RequestMetrics:
    """Records one request at a time. `route` is a template, or None where no route matched."""

    def __init__(self, duration: Histogram) -> None:
        self._duration = duration

    def expect(self, method: str, route: str, status: int) -> None:
        """Let a series stand at 0 before its first request."""
        self._measure(method, route, status, NOTHING, None)

    def record(self, method: str, route: str | None, status: int, seconds: float, error: str | None = None) -> None:
        """Count a request. `error` names what broke where no status tells it, as when the client left."""
        self._measure(method, route, status, seconds, error)

    def _measure(self, method: str, route: str | None, status: int, seconds: float, error: str | None) -> None:
        if route in UNMEASURED:
            return
        attributes: dict[str, str | int] = {
            "http.request.method": method if method in METHODS else "_OTHER",
            "http.route": route or OTHER,
            "http.response.status_code": status,
            # Always there, so that every series of the family has the same labels.
            "error.type": error or (str(status) if status >= 500 else ""),  # noqa: PLR2004 - HTTP's own boundary
        }
        self._duration.record(seconds, attributes)
