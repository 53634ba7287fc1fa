"""Replicas that change their release, and commands of both releases. Clients call `address`.

On PostgreSQL they are behind HAProxy, which follows them as docs/operations/ingress.md says. On SQLite there is one.
"""

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from tests.e2e.drill.load_balancer import LoadBalancer
from tests.e2e.histories.deployment import Replica
from tests.e2e.upgrade.release import ROOT, Release
from tests.support.calls import eventually
from tests.support.process import START_TIMEOUT, running

LIMITS = {  # that clients of one address would reach on a busy machine
    "SUPPORT_RATE_LIMIT": "off",
    "SUPPORT_RATE_LIMIT_ADDRESS": "off",
    "SUPPORT_SHED_LAG": "0",
    "SUPPORT_LOG_LEVEL": "warning",
}
INGRESS = (ROOT / "docs" / "operations" / "ingress.md").read_text()
(CHECKS,) = re.findall(r"default-server (check .*)", INGRESS)
# As on the page, but for answers of a busy machine to health checks: a replica that was stopped refuses at once.
PATIENCE = "\n    timeout server 30s\n    timeout check 60s"
LONGEST_COMMAND = 900.0  # seconds
STATISTICS = "stats enable\n    stats uri /statistics"
NAME, STATUS = 1, 17  # columns of the statistics
IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+(\.\d+)?")


class Deployment:
    def __init__(
        self,
        folder: Path,
        variables: dict[str, str],
        replicas: Sequence[Replica],
        earlier: Release,
        balancer: LoadBalancer | None,
    ) -> None:
        self.folder, self.variables, self.replicas = folder, variables, replicas
        self._earlier, self._balancer = earlier, balancer
        self.address = balancer.address if balancer else f"http://{replicas[0].target}"
        self.warnings: dict[str, Counter[str]] = {earlier.python: Counter(), sys.executable: Counter()}
        self._read = dict.fromkeys(replicas, 0)  # characters of the log

    async def replace(self, replica: Replica, *, earlier: bool = False) -> None:
        """Replace a replica by one of a release, as docs/operations/upgrades.md says."""
        status = await replica.stop()
        self.note_warnings(replica)
        assert status == 0, f"{replica.name} ended with {status}"
        replica.python = self._earlier.python if earlier else sys.executable
        await replica.start()
        if self._balancer:
            await eventually(lambda: self._is_up(replica), START_TIMEOUT)

    async def run(self, *arguments: str, earlier: bool = False, expected: int = 0) -> tuple[str, str]:
        """Run a command of a release beside the service; return what it prints, and its errors."""
        python = self._earlier.python if earlier else sys.executable
        async with running(*arguments, cwd=self.folder, python=python, forked=False, **self.variables) as process:
            status, out, errors = await process.wait_for_exit(LONGEST_COMMAND)
        assert status == expected, f"{' '.join(arguments)} ended with {status}: {out}{errors}"
        return out, errors

    def note_warnings(self, replica: Replica) -> None:
        """Note the new lines of the log of a replica, without what differs each time."""
        lines = (self.folder / f"{replica.name}.log").read_text()
        for line in lines[self._read[replica] :].splitlines():
            message = json.loads(line)["message"] if line.startswith("{") else line
            self.warnings[replica.python][IDS.sub("…", message)] += 1
        self._read[replica] = len(lines)

    async def _is_up(self, replica: Replica) -> bool:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self._balancer.ingress}/statistics;csv") as response,
        ):
            rows = [line.split(",") for line in (await response.text()).splitlines()]
        return any(row[NAME] == replica.name and row[STATUS] == "UP" for row in rows if len(row) > STATUS)


@asynccontextmanager
async def deployed(
    folder: Path, variables: dict[str, str], earlier: Release, replicas: int
) -> AsyncIterator[Deployment]:
    """Run replicas of the earlier release, after its `migrate`; several are behind a load balancer."""
    variables = variables | LIMITS
    started = [Replica(folder, number, variables) for number in range(replicas)]
    async with AsyncExitStack() as stack:
        balancer = LoadBalancer(folder, CHECKS + PATIENCE) if replicas > 1 else None
        deployment = Deployment(folder, variables, started, earlier, balancer)
        await deployment.run("migrate", earlier=True)
        for replica in started:
            replica.python = earlier.python
            stack.callback(replica.kill)
        await asyncio.gather(*(replica.start() for replica in started))
        if balancer:
            stack.callback(balancer.close)
            await balancer.start(started, STATISTICS)
        yield deployment
