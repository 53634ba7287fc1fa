"""Forms of HTTP: URLs in settings and arguments, hosts, paths of routes, and the codings that a client accepts."""

import re
from urllib.parse import urlsplit

PATH_VARIABLE = re.compile(r"\{(\w+)\}")  # of the path of a route


def parse_http_url(value: str) -> str:
    """Check an http or https URL and return it without trailing slashes; raises ValueError with the expected form."""
    if not value.startswith(("http://", "https://")):
        raise ValueError("a URL that starts with http:// or https://")
    check_port(value)
    if not _is_host_name(urlsplit(value).hostname or "") or re.search(r"\s", value):
        raise ValueError("a URL with a host name and without spaces")
    return value.rstrip("/")


def parse_base_url(value: str) -> str:
    """Check a service's base URL, to which paths are appended, and return it like `parse_http_url`.

    Raises ValueError with the expected form.
    """
    if "?" in value or "#" in value:
        raise ValueError("a URL without a query and a fragment, because paths are appended to it")
    return parse_http_url(value)


def check_port(value: str) -> None:
    """Raise ValueError if a URL's port is invalid; the message has the expected form and not the URL."""
    try:
        _ = urlsplit(value).port
    except ValueError:  # its text quotes the presumed port, which may be part of a password
        raise ValueError(
            "a URL with a port up to 65535; encode / in a password as %2F, ? as %3F, # as %23 and @ as %40"
        ) from None


def format_host(host: str) -> str:
    """Return a host name or address in the form of a URL or Host header: an IPv6 address gets brackets."""
    return f"[{host}]" if ":" in host else host


def router_path(path: str) -> str:
    """Return the path of a route for aiohttp's router, with variables that match every segment.

    The variables of aiohttp match no segment with a brace, which ids of customers and names of files may have.
    """
    return PATH_VARIABLE.sub(r"{\1:[^/]+}", path)


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding header allows gzip; a coding with q=0 is refused."""
    weights: dict[str, float] = {}
    for part in accept_encoding.split(","):
        coding, *parameters = (word.strip().lower() for word in part.split(";"))
        weight = next((text for text in parameters if text.startswith("q=")), "q=1")
        try:
            weights[coding] = float(weight[2:])
        except ValueError:
            weights[coding] = 0.0
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


def _is_host_name(name: str) -> bool:
    try:
        return bool(name.encode("idna"))  # the encoding that a DNS lookup of the name uses
    except UnicodeError:
        return False
