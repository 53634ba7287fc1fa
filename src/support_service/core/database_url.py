"""The hosts and the options in a URL of PostgreSQL: `postgresql://db-1:5432,db-2:5432/support?sslmode=verify-full`."""

from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

Host = tuple[str, int | None]  # a name, an address or the folder of a socket, and a port


def host_texts(url: str) -> list[str]:
    """Return each host of a URL as it is written, with its port, and without user and password."""
    return (urlsplit(url).netloc.rpartition("@")[2] or options_of(url).get("host", "localhost")).split(",")


def hosts_of(url: str) -> list[Host]:
    """Return the hosts of a URL. Raises ValueError for an invalid port."""
    texts = [unquote(text) for text in host_texts(url)]
    ports = options_of(url).get("port", "").split(",")
    if len(ports) < len(texts):
        ports = ports[:1] * len(texts)
    return [_host_of(text, port) for text, port in zip(texts, ports, strict=False)]


def options_of(url: str) -> dict[str, str]:
    """Return the options in the query of a URL."""
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


def with_options(url: str, options: Mapping[str, str]) -> str:
    """Return a URL with other options."""
    query = urlencode(options)
    return url.partition("?")[0] + (f"?{query}" if query else "")


def _host_of(text: str, port: str) -> Host:
    if text.startswith("/"):  # the folder of a socket
        return text, int(port) if port else None
    parts = urlsplit(f"//{text}")
    return parts.hostname or "", parts.port or (int(port) if port else None)
