"""Services behind one database that are killed, and started again at the same address."""

import asyncio
from contextlib import asynccontextmanager

from tests.support.process import running
from tests.support.servers import free_port


class Replicas:
    """Some services that are started again when they were killed."""

    def __init__(self, folder, variables, number=2):
        self._folder, self._variables = folder, variables
        self._ports = [free_port() for _ in range(number)]
        self.addresses = [f"http://127.0.0.1:{port}" for port in self._ports]
        self._ready = [asyncio.Event() for _ in range(number)]
        self._killed = [asyncio.Event() for _ in range(number)]
        self._stopping = False
        self.kills = 0

    @asynccontextmanager
    async def running(self):
        """Run them for the length of a block, which begins when all are ready."""
        tasks = [asyncio.create_task(self._run(number)) for number in range(len(self._ports))]
        await self.wait_until_ready()
        yield
        self._stopping = True
        for event in self._killed:
            event.set()
        await asyncio.gather(*tasks)

    async def wait_until_ready(self):
        """Wait until each has been ready once since it was killed."""
        await asyncio.gather(*(event.wait() for event in self._ready))

    def kill(self):
        number = self.kills % len(self._ports)
        self._ready[number].clear()
        self._killed[number].set()
        self.kills += 1

    async def _run(self, number):
        while not self._stopping:
            self._killed[number].clear()
            port = str(self._ports[number])
            async with running("serve", cwd=self._folder, **self._variables, SUPPORT_PORT=port) as service:
                await service.wait_until_ready(self.addresses[number])
                self._ready[number].set()
                await self._killed[number].wait()  # `running` kills
