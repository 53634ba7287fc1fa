"""What browsers are told, and which of their pages may call: security headers, origins, and an open service's names."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address

from aiohttp import web
from multidict import istr

from support_service.core.errors import Forbidden, Misdirected

# On every answer. Nothing of ours is loaded into another's page, and no answer is taken for what it does not say it is.
ALWAYS = tuple(
    (istr(name), value)
    for name, value in (
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    )
)
POLICY = istr("Content-Security-Policy")
NOTHING_LOADED = "default-src 'none'; frame-ancestors 'none'"
CACHE = istr("Cache-Control")
SERVER = istr("Server")
SERVER_NAME = "support-service"  # aiohttp would tell Python's version and its own
TRANSPORT = istr("Strict-Transport-Security")
A_YEAR = "max-age=31536000"
ORIGIN = istr("Origin")
VARY = istr("Vary")

ASKED_METHOD = istr("Access-Control-Request-Method")
ALLOWED_ORIGIN = istr("Access-Control-Allow-Origin")
EXPOSED = (
    istr("Access-Control-Expose-Headers"),
    "Content-Disposition, ETag, Idempotency-Replayed, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id",
)
SENT = (
    "Authorization, Content-Digest, Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Range, Range, "
    "traceparent, tracestate, X-Checksum-Sha256, X-Request-Id"
)
PREFLIGHT_AGE = "600"  # seconds for which a browser need not ask again


def protect(answer: web.StreamResponse) -> None:
    """Give an answer its security headers; a policy or a cache rule of its own stays."""
    headers = answer.headers
    headers.extend(ALWAYS)
    if POLICY not in headers:
        headers[POLICY] = NOTHING_LOADED
    if CACHE not in headers:
        headers[CACHE] = "no-store"
    headers[SERVER] = SERVER_NAME


class Origins:
    """The origins whose pages may call. Without authentication, also the names that the service may be called by."""

    def __init__(self, allowed: Sequence[str] = (), names: Sequence[str] | None = None) -> None:
        """`names` are those beside loopback's; None takes any, as is right where callers show who they are."""
        self._allowed = frozenset(allowed)
        self._names = None if names is None else frozenset(names)

    def check(self, request: web.Request) -> None:
        """Refuse what a foreign page could have sent to a service that asks nobody who they are.

        A page may send forms to loopback, and with DNS of its own (rebinding) read the answers: the browser then names
        the page's own host. Raises Misdirected and Forbidden.
        """
        if self._names is None:
            return
        host = request.headers.get("Host", "").lower()
        if host and not is_loopback(host) and _name(host) not in self._names:
            raise Misdirected("host_not_allowed", "Without authentication only loopback's names are served.")
        origin = request.headers.get(ORIGIN)
        if origin is not None and origin not in self._allowed and origin.lower().partition("://")[2] != host:
            raise Forbidden(
                "origin_not_allowed", "Pages of this origin may not call; SUPPORT_CORS_ORIGINS names those."
            )

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a browser that asks whether a page may send a request; None where this is no such question."""
        if request.method != "OPTIONS" or not self._allowed or ASKED_METHOD not in request.headers:
            return None
        refusal = request.match_info.http_exception
        if request.headers.get(ORIGIN) not in self._allowed or not isinstance(refusal, web.HTTPMethodNotAllowed):
            return None
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": ", ".join(sorted(refusal.allowed_methods)),
                "Access-Control-Allow-Headers": SENT,
                "Access-Control-Max-Age": PREFLIGHT_AGE,
            },
        )

    def tell(self, request: web.BaseRequest, answer: web.StreamResponse) -> None:
        """Let a browser hand the answer to the page that asked for it, where that may call."""
        if not self._allowed:
            return
        answer.headers.add(VARY, ORIGIN)
        origin = request.headers.get(ORIGIN)
        if origin in self._allowed:
            answer.headers[ALLOWED_ORIGIN] = origin
            answer.headers.extend((EXPOSED,))


def _name(host: str) -> str:
    """A Host header's name, without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].rstrip(".")


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a Host header names this machine to itself."""
    name = _name(host)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
