"""HAProxy in front of the replicas: it sends requests to replicas whose readiness check succeeds.

It has two addresses: that of the service, and the ingress, which clients use.
"""

import asyncio
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.drill.processes import Replica
from tests.support.histories.clients import LOAD_BALANCER_ERROR
from tests.support.servers import accepts, find_binary, free_port, wait_until_ready

CONFIGURATION = """
defaults
    mode http
    option forwardfor
    option redispatch 1
    retries 2
    timeout connect 1s
    timeout client 30s
    timeout server 10s
    default-server {checks}
    http-error status 500 content-type application/problem+json string '{own_error}'

frontend service
    bind 127.0.0.1:{service}
    default_backend replicas

frontend ingress
    bind 127.0.0.1:{ingress}
    {rule}
    default_backend replicas

backend replicas
    option httpchk GET /readyz
    {servers}
"""

QUICK = "check inter 250ms fall 2 rise 1 on-marked-down shutdown-sessions"


class LoadBalancer:
    """HAProxy as a process, at the same addresses for its whole life. `checks` says how it follows replicas."""

    def __init__(self, folder: Path, checks: str = QUICK) -> None:
        self._checks = checks
        self._service, self._ingress = free_port(), free_port()
        self._file, self._log = folder / "haproxy.cfg", folder / "haproxy.log"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.address = f"http://127.0.0.1:{self._service}"
        self.ingress = f"http://127.0.0.1:{self._ingress}"

    async def start(self, replicas: Sequence[Replica], rule: str = "") -> None:
        """Use these replicas and an additional rule of the ingress; what was accepted before is still answered."""
        servers = [
            f"server {replica.name} {replica.target} port {replica.admin_target.partition(':')[2]}"
            for replica in replicas
        ]
        values = {"service": self._service, "ingress": self._ingress, "checks": self._checks, "rule": rule}
        values["own_error"] = json.dumps({"code": LOAD_BALANCER_ERROR})
        self._file.write_text(CONFIGURATION.format(**values, servers="\n    ".join(servers)))
        replaced = ("-sf", *(str(process.pid) for process in self._processes if process.poll() is None))
        command = (find_binary("haproxy"), "-db", "-f", self._file, *(replaced if len(replaced) > 1 else ()))
        with self._log.open("ab") as log:
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        await asyncio.to_thread(wait_until_ready, lambda: accepts(self._service), self._processes[-1], self._log)

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
