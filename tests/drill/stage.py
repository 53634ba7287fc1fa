"""Everything that a fault is played on, fresh for each: nothing of one fault is left when the next begins."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from tests.drill.monitoring import START, Monitoring
from tests.drill.receiver import Receiver
from tests.drill.standin import HEALTHY, PROBE, StandIn
from tests.drill.traffic import Traffic
from tests.fakes import Orders, Things, fulfillment_service, payment_service
from tests.process import environment
from tests.servers import RedisServer, free_port

ROOT = Path(__file__).parents[2]
SETTLE = 6.0  # seconds of load before anything is broken: every window of the alerts has seen health


class Service:
    """`support-service serve`, with its breakers' rest divided."""

    def __init__(self, folder: Path, **variables: str) -> None:
        port = free_port()
        self.target = f"127.0.0.1:{port}"
        self.address = f"http://{self.target}"
        self.files = folder / "attachments"
        self._log = folder / "service.log"
        self._environment = environment(
            SUPPORT_PORT=str(port),
            SUPPORT_DATABASE_URL=f"sqlite:///{folder}/support.db",
            SUPPORT_ATTACHMENT_DIR=str(self.files),
            SUPPORT_ACCESS_LOG="0",
            SUPPORT_LOG_LEVEL="warning",
            **variables,
        )
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        command = [sys.executable, "-m", "tests.drill.serve", "serve"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)
        async with asyncio.timeout(START), aiohttp.ClientSession() as session:
            while not await self._ready(session):  # noqa: ASYNC110 - a process sets no event here
                await asyncio.sleep(0.02)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    async def _ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.address}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            if self.process.poll() is not None:
                raise RuntimeError(self._log.read_text()[-2000:]) from None
            return False


class Stage:
    """The parts of one play."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.redis = RedisServer(folder)
        self.orders, self.payments, self.shipments = Orders(), payment_service(), fulfillment_service()
        self.receiver = Receiver()
        self.metrics, self.probe = StandIn(HEALTHY), StandIn(PROBE)
        self.kept: list[tuple[str, str]] = []  # files, by their case
        self._folder = folder
        self._variables = variables
        self.service: Service
        self.monitoring: Monitoring
        self.traffic: Traffic

    @property
    def sources(self) -> tuple[Orders, Things, Things]:
        """The services behind the timeline."""
        return self.orders, self.payments, self.shipments

    @asynccontextmanager
    async def open(self, before: Callable[["Stage"], Awaitable[None]] | None = None) -> AsyncIterator["Stage"]:
        """Start everything, with load; something may be done before anyone watches."""
        async with AsyncExitStack() as stack:
            self.redis.start()
            stack.callback(self.redis.close)
            for part in (*self.sources, self.receiver, self.metrics, self.probe):
                await part.open()
                stack.push_async_callback(part.close)
            self.service = Service(
                self._folder,
                SUPPORT_REDIS_URL=self.redis.url,
                SUPPORT_REDIS_TIMEOUT="1",  # the machine of a drill is busy with everything else
                SUPPORT_ORDER_URL=self.orders.url,
                SUPPORT_PAYMENT_URL=self.payments.url,
                SUPPORT_FULFILLMENT_URL=self.shipments.url,
                **self._variables,
            )
            stack.callback(self.service.kill)
            await self.service.start()
            self.traffic = Traffic(self.service.address)
            await stack.enter_async_context(self.traffic.running())
            if before is not None:
                await before(self)
            targets = {
                "support-service": [self.service.target],
                "support-probe": [self.probe.target],
                "stand-in": [self.metrics.target],
            }
            self.monitoring = Monitoring(self._folder, targets, self.receiver)
            stack.push_async_callback(self.monitoring.close)
            await self.monitoring.open()
            await self.monitoring.watch()
            yield self
