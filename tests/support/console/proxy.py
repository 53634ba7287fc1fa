"""HAProxy between the browser and the service."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers import Server, accepts, find_binary, free_port

CONFIGURATION = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s

frontend proxy
    bind 127.0.0.1:{port} {tls}
    {rules}
    default_backend service

backend service
    server service {service}
"""


@contextmanager
def running_proxy(folder: Path, service: str, *rules: str, certificate: Path | None = None) -> Iterator[str]:
    """Pass requests on to the service at an address, by rules of HAProxy; yield the proxy's address."""
    port = free_port()
    file, log = folder / "haproxy.cfg", folder / "haproxy.log"
    tls = f"ssl crt {certificate}" if certificate else ""
    target = service.removeprefix("http://")
    file.write_text(CONFIGURATION.format(port=port, tls=tls, rules="\n    ".join(rules), service=target))

    server = Server()
    server.launch([find_binary("haproxy"), "-db", "-f", file], lambda: accepts(port), log)
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{port}"
    finally:
        server.close()
