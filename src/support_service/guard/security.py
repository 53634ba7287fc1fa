"""Browser security: security headers, allowed origins, and allowed host names of a service without authentication."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address

from aiohttp import web
from multidict import istr
from yarl import URL

from support_service.core.errors import Forbidden, MisdirectedRequest

# On every response: foreign pages cannot embed it, and browsers use no content type but the declared one.
SECURITY_HEADERS = tuple(
    (istr(name), value)
    for name, value in (
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    )
)
CSP_HEADER = istr("Content-Security-Policy")
DEFAULT_CSP = "default-src 'none'; frame-ancestors 'none'"
CACHE_CONTROL_HEADER = istr("Cache-Control")
SERVER_HEADER = istr("Server")
SERVER_NAME = "support-service"  # aiohttp would disclose Python's version and its own
HSTS_HEADER = istr("Strict-Transport-Security")
HSTS_VALUE = "max-age=31536000"
HOST_HEADER = istr("Host")
ORIGIN_HEADER = istr("Origin")
VARY_HEADER = istr("Vary")

CORS_REQUEST_METHOD = istr("Access-Control-Request-Method")
CORS_ALLOW_ORIGIN = istr("Access-Control-Allow-Origin")
CORS_EXPOSE_HEADERS = (
    istr("Access-Control-Expose-Headers"),
    (
        "Content-Disposition, ETag, Idempotency-Replayed, Location, RateLimit, RateLimit-Policy, Retry-After, "
        "Support-Position, X-Request-Id"
    ),
)
CORS_ALLOW_HEADERS = (
    "Authorization, Content-Digest, Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Range, Range, "
    "Support-Position, traceparent, tracestate, X-Checksum-Sha256, X-Request-Id"
)
CORS_MAX_AGE = "600"  # seconds for which a browser may cache the response to a preflight


def add_security_headers(response: web.StreamResponse) -> None:
    """Set the security headers of a response, except a content policy or cache rule that it already has."""
    headers = response.headers
    headers.extend(SECURITY_HEADERS)
    if CSP_HEADER not in headers:
        headers[CSP_HEADER] = DEFAULT_CSP
    if CACHE_CONTROL_HEADER not in headers:
        headers[CACHE_CONTROL_HEADER] = "no-store"
    headers[SERVER_HEADER] = SERVER_NAME


class BrowserPolicy:
    """Origins whose pages may call the service. Without authentication, also the host names that clients may use."""

    def __init__(self, allowed_origins: Sequence[str] = (), own_urls: Sequence[str] | None = None) -> None:
        """Store the allowed origins, and the service's own URLs, whose hosts are allowed in addition to loopback names.

        If `own_urls` is None, hosts and origins are not checked; this is right for a service with authentication.
        """
        self._allowed = frozenset(allowed_origins)
        self._own_urls = own_urls
        self._own_host_names = frozenset(URL(url).raw_host for url in own_urls or ())

    def check(self, request: web.Request, scheme: str) -> None:
        """Refuse requests that a foreign page could have sent to a service without authentication.

        A page can send forms to loopback, and can read the responses through DNS rebinding; the Host header then holds
        the page's own host name. `scheme` is the client's. Raises MisdirectedRequest for the host and
        Forbidden for the origin.
        """
        if self._own_urls is None:
            return
        host = request.headers.get(HOST_HEADER, "").lower()
        if host and not is_loopback(host) and _host_name(host) not in self._own_host_names:
            raise MisdirectedRequest(
                "host_not_allowed",
                "This host name is not allowed; without authentication, use localhost or SUPPORT_PUBLIC_URL's host.",
            )
        origin = request.headers.get(ORIGIN_HEADER)
        if origin is None or origin in self._allowed:
            return
        if not any(is_same_origin(origin, url) for url in (own_url(request, scheme), *self._own_urls)):
            raise Forbidden(
                "origin_not_allowed", "This origin is not allowed; SUPPORT_CORS_ORIGINS lists the allowed origins."
            )

    def preflight(self, request: web.Request) -> web.Response | None:
        """Return the response to a CORS preflight, or None if it is not one or not allowed."""
        if request.method != "OPTIONS" or not self._allowed or CORS_REQUEST_METHOD not in request.headers:
            return None
        refusal = request.match_info.http_exception
        if request.headers.get(ORIGIN_HEADER) not in self._allowed or not isinstance(refusal, web.HTTPMethodNotAllowed):
            return None
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": ", ".join(sorted(refusal.allowed_methods)),
                "Access-Control-Allow-Headers": CORS_ALLOW_HEADERS,
                "Access-Control-Max-Age": CORS_MAX_AGE,
            },
        )

    def set_cors_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Set the CORS headers that let a browser pass the response to a page of an allowed origin."""
        if not self._allowed:
            return
        response.headers.add(VARY_HEADER, ORIGIN_HEADER)
        origin = request.headers.get(ORIGIN_HEADER)
        if origin in self._allowed:
            response.headers[CORS_ALLOW_ORIGIN] = origin
            response.headers.extend((CORS_EXPOSE_HEADERS,))


def own_url(request: web.Request, scheme: str) -> str:
    """Return the URL of the service as the client of a request calls it, without a path."""
    return f"{scheme}://{request.headers.get(HOST_HEADER, '')}"


def is_same_origin(origin: str, url: str) -> bool:
    """Return whether an `Origin` header has the scheme, the host and the port of a URL."""
    try:
        one, other = URL(origin), URL(url)
    except ValueError:
        return False
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


def _host_name(host: str) -> str:
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].rstrip(".")


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Return True if a Host header names the loopback interface."""
    name = _host_name(host)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
