"""Browser security: security headers, allowed origins, and allowed host names of a service without authentication."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from ipaddress import IPv6Address, ip_address

from aiohttp import web
from multidict import CIMultiDict, istr
from yarl import URL

from support_service.core.errors import problem

# On every response: foreign pages cannot embed it, and browsers use no content type but the declared one.
SECURITY_HEADERS = tuple(
    (istr(name), value)
    for name, value in (
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Server", "support-service"),  # aiohttp would disclose Python's version and its own
    )
)
CSP_HEADER = istr("Content-Security-Policy")
DEFAULT_CSP = "default-src 'none'; frame-ancestors 'none'"
CACHE_CONTROL_HEADER = istr("Cache-Control")
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
        "X-Request-Id"
    ),
)
CORS_ALLOW_HEADERS = (
    "Authorization, Content-Digest, Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Range, Range, "
    "traceparent, tracestate, X-Checksum-Sha256, X-Request-Id"
)
CORS_MAX_AGE = "600"  # seconds for which a browser may cache the response to a preflight

MAX_PORT = 65_535
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_HOST_LENGTH = 253  # characters of a name in DNS
HOST_PATTERN = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?))(?::([1-9][0-9]{0,4}))?")


@dataclass(frozen=True)
class WebOrigin:
    """A scheme, a host and a port. The host is in lower case, and empty for a request that names none."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"

    @cached_property
    def host_name(self) -> str:
        """The host without the final dot of a name in DNS."""
        return self.host.removesuffix(".")

    @cached_property
    def is_loopback(self) -> bool:
        """Whether the host is the loopback interface."""
        name = self.host_name
        if name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            return ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return False


@lru_cache(maxsize=256)
def read_origin(scheme: str, host: str) -> WebOrigin:
    """Return the origin of a scheme and a Host header. Raises ValueError unless it is a host with or without a port."""
    if not host:
        return WebOrigin(scheme, "", DEFAULT_PORTS[scheme])
    found = HOST_PATTERN.fullmatch(host.lower()) if host.isascii() else None
    if found is None:
        raise ValueError("it is not a host with or without a port")
    address, name, port = found.groups()
    number = int(port) if port else DEFAULT_PORTS[scheme]
    if number > MAX_PORT or len(name or "") > MAX_HOST_LENGTH:
        raise ValueError("its port is too large, or its name is too long")
    return WebOrigin(scheme, f"[{IPv6Address(address)}]" if address else name, number)


def parse_origin(text: str) -> WebOrigin | None:
    """Return the origin of an Origin header; None for any other text, such as `null`."""
    scheme, _, host = text.partition("://")
    try:
        return read_origin(scheme, host) if scheme in DEFAULT_PORTS and host else None
    except ValueError:
        return None


class BrowserPolicy:
    """Origins whose pages may call the service. Without authentication, also the host names that clients may use."""

    def __init__(self, allowed_origins: Sequence[str] = (), own_urls: Sequence[str] | None = None) -> None:
        """Store the allowed origins, and the service's own URLs, whose hosts are allowed in addition to loopback names.

        If `own_urls` is None, hosts and origins are not checked; this is right for a service with authentication.
        """
        self.allowed_origins = frozenset(allowed_origins)
        self._own_origins = None if own_urls is None else [parse_origin(str(URL(url).origin())) for url in own_urls]
        self._own_host_names = frozenset(each.host_name for each in self._own_origins or () if each)

    def check(self, request: web.Request, own: WebOrigin) -> None:
        """Refuse requests that a foreign page could have sent to a service without authentication.

        A page can send forms to loopback, and can read the responses through DNS rebinding; the Host header then holds
        the page's own host name. `own` is the service as the client calls it. Raises SupportError for the host,
        and Forbidden for the origin.
        """
        if self._own_origins is None:
            return
        if own.host and not own.is_loopback and own.host_name not in self._own_host_names:
            raise problem(
                "host_not_allowed",
                "This host name is not allowed; without authentication, use localhost or SUPPORT_PUBLIC_URL's host.",
            )
        origin = request.headers.get(ORIGIN_HEADER)
        if origin is None or origin in self.allowed_origins:
            return
        if parse_origin(origin) not in {own, *self._own_origins} - {None}:
            raise problem(
                "origin_not_allowed", "This origin is not allowed; SUPPORT_CORS_ORIGINS lists the allowed origins."
            )

    def preflight(self, request: web.Request) -> web.Response | None:
        """Return the response to a CORS preflight, or None if it is not one or not allowed."""
        if not self.allowed_origins or CORS_REQUEST_METHOD not in request.headers:
            return None
        refusal = request.match_info.http_exception
        if request.headers.get(ORIGIN_HEADER) not in self.allowed_origins or not isinstance(
            refusal, web.HTTPMethodNotAllowed
        ):
            return None
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": ", ".join(sorted(refusal.allowed_methods)),
                "Access-Control-Allow-Headers": CORS_ALLOW_HEADERS,
                "Access-Control-Max-Age": CORS_MAX_AGE,
            },
        )

    def set_cors_headers(self, origin: str | None, headers: CIMultiDict[str]) -> None:
        """Set the headers of a response that let a browser pass it to a page of an allowed origin."""
        headers.add(VARY_HEADER, ORIGIN_HEADER)
        if origin in self.allowed_origins:
            headers[CORS_ALLOW_ORIGIN] = origin
            headers.extend((CORS_EXPOSE_HEADERS,))
