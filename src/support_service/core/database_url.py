"""The hosts in a URL of PostgreSQL, which may name several: `postgresql://db-1:5432,db-2:5432/support`."""

from urllib.parse import parse_qsl, unquote, urlsplit

Host = tuple[str, int | None]  # a name, an address or the folder of a socket, and a port


def host_texts(url: str) -> list[str]:
    """Return each host of a URL as it is written, with its port, and without user and password."""
    parts = urlsplit(url)
    return (parts.netloc.rpartition("@")[2] or dict(parse_qsl(parts.query)).get("host", "localhost")).split(",")


def hosts_of(url: str) -> list[Host]:
    """Return the hosts of a URL. Raises ValueError for an invalid port."""
    texts = [unquote(text) for text in host_texts(url)]
    ports = dict(parse_qsl(urlsplit(url).query)).get("port", "").split(",")
    if len(ports) < len(texts):
        ports = ports[:1] * len(texts)
    return [_host_of(text, port) for text, port in zip(texts, ports, strict=False)]


def _host_of(text: str, port: str) -> Host:
    if text.startswith("/"):  # the folder of a socket
        return text, int(port) if port else None
    parts = urlsplit(f"//{text}")
    return parts.hostname or "", parts.port or (int(port) if port else None)
