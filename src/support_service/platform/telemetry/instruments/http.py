"""Instruments of the HTTP server: requests, connections, and what the limits refused."""

from support_service.platform.telemetry.instruments.spec import InstrumentSpec

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
CONNECTION_OPEN = InstrumentSpec(
    "support.connection.open", "observed sum", "{connection}", "Connections of clients", {}
)
CONNECTION_CUT = InstrumentSpec(
    "support.connection.cut",
    "counter",
    "{connection}",
    "Refused and closed connections: full (limit reached and no idle connection), share (the same for one address), "
    "idle (closed in favor of a new one), head (headers did not arrive in time), unread (response was not read), "
    "slow (response was read below the minimum rate)",
    {"reason": ("full", "share", "idle", "head", "unread", "slow")},
)
REQUEST_TURNED_AWAY = InstrumentSpec(
    "support.request.turned_away",
    "counter",
    "{request}",
    "Requests that admission refused: over the rate limit of their address or principal (429), because of event "
    "loop lag or too many concurrent requests (503), because of unread answers of the caller (429) or of all (503), or "
    "of too many open streams of the caller (429) or of all (503)",
    {"reason": ("address", "principal", "lag", "requests", "unread", "streams")},
)
REQUEST_RECEIVED = InstrumentSpec(
    "support.request.received",
    "counter",
    "{request}",
    "Requests except health checks and scrapes, by sender: probe (`support-service probe`, by its User-Agent), other",
    {"synthetic": ("probe", "other")},
)
