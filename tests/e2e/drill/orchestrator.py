"""`kubectl` and `docker` for the actions of the pages, which do to the processes of a drill what the real ones would.

Programs of these names send their arguments to the drill. An unknown command fails.
"""

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from tests.e2e.drill.processes import Replica

if TYPE_CHECKING:
    from tests.e2e.drill.deployment import Deployment

LONGEST = 180.0  # seconds that a command takes on a busy machine
PROGRAM = """#!/bin/sh
printf '%s\\n' {name} "$@" | exec curl -q -sS --fail-with-body --max-time {longest:g} --data-binary @- {url}
"""


class Orchestrator:
    """Restarts, replaces and configures the parts of a deployment."""

    def __init__(self, deployment: "Deployment", folder: Path) -> None:
        self._deployment = deployment
        self.folder = folder  # of the programs
        self._usual: dict[tuple[Replica, str], str | None] = {}  # variables before they were set
        service = r"deploy[/ ]support-service"
        self._commands = {
            rf"kubectl -n support rollout restart {service}": self._restart_replicas,
            r"kubectl -n support rollout restart deploy[/ ]probe": self._restart_probe,
            rf"kubectl -n support rollout undo {service}": self._roll_back,
            rf"kubectl -n support set env {service} (.+)": self._set_variables,
            r"kubectl -n support get pods .*": self._list_pods,
            r"kubectl -n support delete pod (\S+)": self._replace_pod,
            r"kubectl cordon (\S+)": self._cordon_node,
            r"docker compose restart postgres": self._restart_postgres,
            r"docker compose restart redis": self._restart_redis,
            r"docker compose run --rm migrate": self._migrate,
        }
        app = web.Application()
        app.router.add_post("/", self._answer)
        self._runner = web.AppRunner(app)

    async def open(self) -> None:
        """Listen, and write the programs."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"
        self.folder.mkdir()
        for name in ("kubectl", "docker"):
            program = self.folder / name
            program.write_text(PROGRAM.format(name=name, longest=LONGEST, url=url))
            program.chmod(0o755)

    async def close(self) -> None:
        await self._runner.cleanup()

    async def restore(self) -> None:
        for (replica, name), value in self._usual.items():
            if value is None:
                replica.environment.pop(name, None)
            else:
                replica.environment[name] = value
        for replica in {replica for replica, _ in self._usual}:
            await replica.restart()
        self._usual.clear()

    async def _answer(self, request: web.Request) -> web.Response:
        command = " ".join((await request.text()).split("\n")).strip()
        for pattern, act in self._commands.items():
            if found := re.fullmatch(pattern, command):
                return web.Response(text=f"{await act(*found.groups())}\n")
        return web.Response(status=400, text=f"a drill has no such command: {command}\n")

    async def _restart_replicas(self) -> str:
        for replica in self._deployment.replicas:
            await replica.restart()
        return "restarted"

    async def _restart_probe(self) -> str:
        await self._deployment.probe.restart()
        return "restarted"

    async def _restart_postgres(self) -> str:
        await asyncio.to_thread(self._deployment.database.server.kill)
        await self._deployment.database.start()
        return "restarted"

    async def _restart_redis(self) -> str:
        await asyncio.to_thread(self._deployment.events.close)
        await asyncio.to_thread(self._deployment.events.start)
        return "restarted"

    async def _migrate(self) -> str:
        """Migrate, and start the replicas that have ended, as their restart policy does."""
        migrated = await self._deployment.run("migrate")
        for replica in self._deployment.replicas:
            await replica.start()
        return migrated

    async def _list_pods(self) -> str:
        return "\n".join(
            f"{replica.name} {replica.admin_target} {replica.node}" for replica in self._deployment.replicas
        )

    async def _replace_pod(self, pod: str) -> str:
        for replica in self._deployment.replicas:
            if replica.name == pod:
                await replica.restart()
                return f'pod "{pod}" deleted'
        raise web.HTTPBadRequest(text=f"no pod {pod}\n")

    async def _roll_back(self) -> str:
        await self._deployment.remove_new_replicas()
        return "rolled back"

    async def _set_variables(self, variables: str) -> str:
        for variable in variables.split():
            for replica in self._deployment.replicas:
                self._set(replica, *variable.split("=", 1))
        return await self._restart_replicas()

    async def _cordon_node(self, node: str) -> str:
        """Let the replica of a node, which begins on the next one, have a clock and a network that are right."""
        for replica in self._deployment.replicas:
            if replica.node == node:
                self._set(replica, "FAKETIME_TIMESTAMP_FILE", str(self._deployment.right_clock))
                for name, address in self._deployment.unlinked.items():
                    self._set(replica, name, address)
        return f"node/{node} cordoned"

    def _set(self, replica: Replica, name: str, value: str) -> None:
        self._usual.setdefault((replica, name), replica.environment.get(name))
        replica.environment[name] = value
