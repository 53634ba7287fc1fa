"""HAProxy as a TCP load balancer in front of replicas. It spreads connections evenly."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load_generator import Failed

TIMEOUT = "120s"


def command(directory: Path, name: str, port: int, replicas: Sequence[int]) -> list[str]:
    """Write a configuration and return the command that balances `port` over the ports of the replicas.

    Raises Failed if HAProxy is not installed.
    """
    binary = shutil.which("haproxy", path=os.pathsep.join((os.defpath, "/usr/sbin", "/usr/local/sbin")))
    if binary is None:
        raise Failed("haproxy is missing: `make services` installs it")
    lines = [
        "global",
        "  nbthread 1",
        "defaults",
        "  mode tcp",
        "  balance roundrobin",
        "  timeout connect 5s",
        f"  timeout client {TIMEOUT}",
        f"  timeout server {TIMEOUT}",
        "listen replicas",
        f"  bind 127.0.0.1:{port}",
        *(f"  server replica{number} 127.0.0.1:{replica}" for number, replica in enumerate(replicas, 1)),
    ]
    file = directory / f"{name}.cfg"
    file.write_text("\n".join(lines) + "\n")
    return [binary, "-db", "-f", str(file)]
