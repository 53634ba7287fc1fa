"""The environment of a fault. Each fault gets a new one, so that faults do not affect each other."""

import base64
import json
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

SETTLE = 6 * EVALUATION  # of load before the fault, so that every window of the alerts has healthy samples
BUCKET = "case-files"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"drill" * 6).decode()


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a fault needs in addition to the usual environment."""

    settings: dict[str, str] = field(default_factory=dict)  # of the service
    load: dict[str, float] = field(default_factory=dict)  # rates of `Traffic` that differ
    probe: tuple[str, ...] = ()  # arguments
    s3: bool = False  # files are offloaded within a second
    separate_events_redis: bool = False
    webhook: bool = False  # the receiver gets the service's events
    disk: int | None = None  # bytes, if the service has a separate disk


class DrillEnvironment:
    """The components that a fault runs with."""

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        self._folder = folder
        self._scenario = scenario
        self.redis = RedisServer(folder)
        self.events = RedisServer(folder) if scenario.separate_events_redis else self.redis
        self.s3 = S3Server(folder)
        self.orders, self.payments, self.shipments = OrderService(), payment_service(), fulfillment_service()
        self.receiver = Receiver()
        self.large_files: list[tuple[str, str]] = []  # as (case, attachment)
        self.disk = scenario.disk
        self.service = Service(folder, self.disk, **self._variables())
        self.probe = Probe(folder, self.service, EVALUATION, *scenario.probe)
        self.traffic = Traffic(self.service.address)
        self.monitoring: Monitoring

    @property
    def sources(self) -> tuple[OrderService, PagedService, PagedService]:
        """The upstream services of the timeline."""
        return self.orders, self.payments, self.shipments

    @property
    def events_url(self) -> str:
        """The URL of the event streams: another database than that of the cache, which may be flushed."""
        return f"{self.events.url.removesuffix('0')}1"

    @asynccontextmanager
    async def open(
        self, before: Callable[["DrillEnvironment"], Awaitable[None]] | None = None
    ) -> AsyncIterator["DrillEnvironment"]:
        """Start all components with load; `before` runs before monitoring starts."""
        async with AsyncExitStack() as stack:
            for server in (self.redis, self.events, *([self.s3] if self._scenario.s3 else [])):
                server.start()
                stack.callback(server.close)
            if self._scenario.s3:
                self.s3.create_bucket(BUCKET)
            for part in (*self.sources, self.receiver):
                await part.open()
                stack.push_async_callback(part.close)
            for name, source in zip(("ORDER", "PAYMENT", "FULFILLMENT"), self.sources, strict=True):
                self.service.environment[f"SUPPORT_{name}_URL"] = source.url
            if self._scenario.webhook:
                self.service.environment["SUPPORT_WEBHOOKS"] = json.dumps([self._webhook()])
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
            for name, value in self._scenario.load.items():
                setattr(self.traffic, name, value)
            yield self

    def _webhook(self) -> dict[str, str]:
        return {"name": "crm", "url": self.receiver.url("/webhook"), "secret": WEBHOOK_SECRET}

    def _variables(self) -> dict[str, str]:
        variables = {
            "SUPPORT_REDIS_URL": self.redis.url,
            "SUPPORT_REDIS_TIMEOUT": "1",  # the machine of a drill is busy
            "SUPPORT_EVENTS_REDIS_URL": self.events_url,
        }
        if self._scenario.s3:
            variables |= {
                "SUPPORT_S3_BUCKET": BUCKET,
                "SUPPORT_S3_ENDPOINT": self.s3.url,
                "SUPPORT_OFFLOAD_AFTER": "1s",
                "SUPPORT_OFFLOAD_GRACE": "1s",
                "AWS_ACCESS_KEY_ID": "tests",
                "AWS_SECRET_ACCESS_KEY": "tests",
            }
        return variables | self._scenario.settings
