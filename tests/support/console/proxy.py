"""HAProxy between the browser and the service."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers import find_binary, free_port, wait_until_ready

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

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with (
        log.open("wb") as output,
        subprocess.Popen([find_binary("haproxy"), "-db", "-f", file], stdout=output, stderr=output) as process,
    ):
        wait_until_ready(listens, process, log)
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{port}"
        process.kill()
