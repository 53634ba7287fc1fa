"""Everything that a fault is played on, fresh for each: nothing of one fault is left when the next begins."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.drill import EVALUATION
from tests.e2e.drill.commands import Probe, Service
from tests.e2e.drill.monitoring import Monitoring
from tests.e2e.drill.receiver import Receiver
from tests.e2e.drill.traffic import Traffic
from tests.support.servers import RedisServer, S3Server
from tests.support.upstream import OrderService, PagedService, fulfillment_service, payment_service

SETTLE = 6 * EVALUATION  # of load, before anything is broken: every window of the alerts has seen health
BUCKET = "case-files"


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault needs beside the usual."""

    settings: dict[str, str] = field(default_factory=dict)  # of the service
    load: dict[str, float] = field(default_factory=dict)  # other than usual
    probe: tuple[str, ...] = ()  # arguments
    s3: bool = False  # files move there within a second
    events_apart: bool = False  # a Redis for events alone
    disk: int | None = None  # bytes, where the service has a disk of its own


class Stage:
    """The parts of one play."""

    def __init__(self, folder: Path, scene: Scene) -> None:
        self._folder = folder
        self._scene = scene
        self.redis = RedisServer(folder)
        self.events = RedisServer(folder) if scene.events_apart else self.redis
        self.s3 = S3Server(folder)
        self.orders, self.payments, self.shipments = OrderService(), payment_service(), fulfillment_service()
        self.receiver = Receiver()
        self.kept: list[tuple[str, str]] = []  # files, by their case
        self.disk = scene.disk
        self.service = Service(folder, self.disk, **self._variables())
        self.probe = Probe(folder, self.service, EVALUATION, *scene.probe)
        self.traffic = Traffic(self.service.address)
        self.monitoring: Monitoring

    @property
    def sources(self) -> tuple[OrderService, PagedService, PagedService]:
        """The services behind the timeline."""
        return self.orders, self.payments, self.shipments

    @property
    def events_url(self) -> str:
        """Where the streams of events are: in another database than the cache, which may be emptied."""
        return f"{self.events.url.removesuffix('0')}1"

    @asynccontextmanager
    async def open(self, before: Callable[["Stage"], Awaitable[None]] | None = None) -> AsyncIterator["Stage"]:
        """Start everything, with load; something may be done before anyone watches."""
        async with AsyncExitStack() as stack:
            for server in (self.redis, self.events, *([self.s3] if self._scene.s3 else [])):
                server.start()
                stack.callback(server.close)
            if self._scene.s3:
                self.s3.create_bucket(BUCKET)
            for part in (*self.sources, self.receiver):
                await part.open()
                stack.push_async_callback(part.close)
            for name, source in zip(("ORDER", "PAYMENT", "FULFILLMENT"), self.sources, strict=True):
                self.service.environment[f"SUPPORT_{name}_URL"] = source.url
            for command in (self.service, self.probe):
                stack.callback(command.kill)
                await command.start()
            await stack.enter_async_context(self.traffic.running())
            if before is not None:
                await before(self)
            targets = {"support-service": [self.service.target], "support-probe": [self.probe.target]}
            self.monitoring = Monitoring(self._folder, targets, self.receiver)
            stack.push_async_callback(self.monitoring.close)
            await self.monitoring.open()
            await self.monitoring.watch()
            for name, value in self._scene.load.items():
                setattr(self.traffic, name, value)
            yield self

    def _variables(self) -> dict[str, str]:
        variables = {
            "SUPPORT_REDIS_URL": self.redis.url,
            "SUPPORT_REDIS_TIMEOUT": "1",  # the machine of a drill is busy with everything else
            "SUPPORT_EVENTS_REDIS_URL": self.events_url,
        }
        if self._scene.s3:
            variables |= {
                "SUPPORT_S3_BUCKET": BUCKET,
                "SUPPORT_S3_ENDPOINT": self.s3.url,
                "SUPPORT_OFFLOAD_AFTER": "1s",
                "SUPPORT_OFFLOAD_GRACE": "1s",
                "AWS_ACCESS_KEY_ID": "tests",
                "AWS_SECRET_ACCESS_KEY": "tests",
            }
        return variables | self._scene.settings
