"""What is broken, how it is repaired, and which alerts are to be told of it: these and no others."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import redis.asyncio as redis

from tests.drill import SIZE
from tests.drill.stage import Stage

MIB = 1024**2
Broken = Callable[[Stage], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def again_and_again(do: Callable[[], Awaitable[object]], every: float) -> AsyncIterator[None]:
    """Do something on and on for the length of a block, and end what is being done rather than break it off."""
    over = asyncio.Event()

    async def repeat() -> None:
        while not over.is_set():
            await do()
            await asyncio.sleep(every)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        over.set()
        await task


@dataclass(frozen=True)
class Fault:
    """One thing that breaks: `broken` holds it so for the length of a block, and leaves it repaired."""

    name: str
    alerts: frozenset[str]  # with the label that tells them apart, as `SupportTimelineSourceDown[order]`
    broken: Broken
    stands_in: bool = False  # the metric is a stand-in's: the part that records it is not there yet
    before: Callable[[Stage], Awaitable[None]] | None = None  # done before anyone watches
    settings: dict[str, str] = field(default_factory=dict)
    load: dict[str, float] = field(default_factory=dict)


@asynccontextmanager
async def order_hangs(stage: Stage) -> AsyncIterator[None]:
    release = stage.orders.hang()
    yield
    release.set()
    stage.orders.heal()


@asynccontextmanager
async def order_is_slow(stage: Stage) -> AsyncIterator[None]:
    release = stage.orders.delay(2.5)
    yield
    release.set()
    stage.orders.heal()


@asynccontextmanager
async def payment_fails(stage: Stage) -> AsyncIterator[None]:
    stage.payments.fail_with(500)
    yield
    stage.payments.heal()


@asynccontextmanager
async def payment_talks_nonsense(stage: Stage) -> AsyncIterator[None]:
    stage.payments.answer_with({"nonsense": True})
    yield
    stage.payments.heal()


@asynccontextmanager
async def sources_are_down(stage: Stage) -> AsyncIterator[None]:
    for source in stage.sources:
        source.drop()
    yield
    for source in stage.sources:
        source.heal()


@asynccontextmanager
async def redis_is_killed(stage: Stage) -> AsyncIterator[None]:
    stage.redis.kill()
    yield
    await asyncio.to_thread(stage.redis.start)


@asynccontextmanager
async def redis_freezes(stage: Stage) -> AsyncIterator[None]:
    stage.redis.freeze()
    yield
    stage.redis.thaw()


@asynccontextmanager
async def cache_is_corrupt(stage: Stage) -> AsyncIterator[None]:
    async with redis.Redis.from_url(stage.redis.url) as client:

        async def spoil() -> None:
            async for key in client.scan_iter("support:timeline:*", count=1000):
                if not key.endswith(b"claim"):
                    await client.set(key, b"not a timeline", xx=True, keepttl=True)

        async with again_and_again(spoil, 0.02):
            yield
        await client.flushall()


@asynccontextmanager
async def cache_forgets(stage: Stage) -> AsyncIterator[None]:
    async with redis.Redis.from_url(stage.redis.url) as client, again_and_again(client.flushall, 0.02):
        yield


async def fill(stage: Stage) -> None:
    """Sixteen files, of a size that is one GiB before it is divided."""
    for _ in range(16):
        case = await stage.traffic.open_case(read=False)
        stage.kept.append((case, await stage.traffic.upload(case, MIB)))


@asynccontextmanager
async def backlog_is_high(stage: Stage) -> AsyncIterator[None]:
    yield
    for case, attachment in stage.kept:
        await stage.traffic.remove(case, attachment)


@asynccontextmanager
async def files_pour_in(stage: Stage) -> AsyncIterator[None]:
    stage.traffic.files, stage.traffic.file_size = 4.0, 100_000
    yield
    stage.traffic.files, stage.traffic.file_size = 1.0, 100


@asynccontextmanager
async def uploads_fail(stage: Stage) -> AsyncIterator[None]:
    away = stage.service.files.with_name("attachments-away")
    stage.service.files.rename(away)
    stage.service.files.write_text("no folder")
    yield
    stage.service.files.unlink()
    away.rename(stage.service.files)


@asynccontextmanager
async def loop_is_held(stage: Stage) -> AsyncIterator[None]:
    async def hold() -> None:
        stage.service.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(0.38)  # a scrape waits 0.5 s
        finally:
            stage.service.process.send_signal(signal.SIGCONT)

    async with again_and_again(hold, 0.2):
        yield


@asynccontextmanager
async def service_is_killed(stage: Stage) -> AsyncIterator[None]:
    stage.service.kill()
    stage.probe.values["support_probe_success"] = 0  # as the probe would find
    yield
    await stage.service.start()
    stage.probe.heal()


@asynccontextmanager
async def tickets_flood(stage: Stage) -> AsyncIterator[None]:
    stage.traffic.unread = 45.0
    yield
    stage.traffic.unread = 0.0


@asynccontextmanager
async def tickets_stop(stage: Stage) -> AsyncIterator[None]:
    stage.traffic.opened = 0.0
    yield
    stage.traffic.opened = 4.0


@asynccontextmanager
async def probe_stops(stage: Stage) -> AsyncIterator[None]:
    await stage.probe.close()
    yield
    await stage.probe.open()


@asynccontextmanager
async def probe_fails(stage: Stage) -> AsyncIterator[None]:
    stage.probe.values["support_probe_success"] = 0
    yield
    stage.probe.heal()


def reported(**values: float) -> Broken:
    """A fault that a stand-in reports."""

    @asynccontextmanager
    async def broken(stage: Stage) -> AsyncIterator[None]:
        stage.metrics.values |= values
        yield
        stage.metrics.heal()

    return broken


@asynccontextmanager
async def s3_is_down(stage: Stage) -> AsyncIterator[None]:
    stage.metrics.growing.add('support_attachment_offloaded_total{to="s3",outcome="failed"}')
    yield
    stage.metrics.growing.clear()
    stage.metrics.growing.add('support_attachment_offloaded_total{to="s3",outcome="moved"}')


@asynccontextmanager
async def nothing(_: Stage) -> AsyncIterator[None]:
    yield


def _fault(name: str, alerts: str, broken: Broken, **more: object) -> Fault:
    return Fault(name, frozenset(alerts.split()), broken, **more)


BURN = "SupportTimelineErrorBudgetBurnFast"
DOWN = "SupportTimelineSourceDown"
FAULTS = (
    _fault("order hangs", f"{DOWN}[order] {BURN}", order_hangs),
    _fault(
        "order is slow",
        "SupportTimelineLatencyHigh",
        order_is_slow,
        settings={
            "SUPPORT_TIMELINE_SOURCE_TIMEOUT": "4",
            "SUPPORT_TIMELINE_DEADLINE": "5",
            "SUPPORT_TIMELINE_CONNECTIONS": "128",  # slow, and not short of places
        },
        load={"opened": 8.0, "reads": 70.0},  # of the reads, few are late: no budget burns
    ),
    _fault("payment answers 500", f"{DOWN}[payment] {BURN}", payment_fails),
    _fault(
        "payment answers nonsense",
        f"SupportTimelineCollectionFailures[aggregate] {BURN}",
        payment_talks_nonsense,
    ),
    _fault("all sources down", f"{DOWN}[order] {DOWN}[payment] {DOWN}[fulfillment] {BURN}", sources_are_down),
    _fault("Redis killed", "SupportTimelineCacheErrors", redis_is_killed),
    _fault("Redis frozen", "SupportTimelineCacheErrors", redis_freezes),
    _fault("cache corrupt", "SupportTimelineCollectionFailures[cache_decode]", cache_is_corrupt),
    _fault("cache forgets", "SupportTimelineCacheMissSurge", cache_forgets),
    _fault("backlog high", "SupportAttachmentBacklogHigh", backlog_is_high, before=fill),
    _fault(
        "disk nearly full",
        "SupportAttachmentDiskFull",
        reported(support_attachment_disk_free_bytes=0.5 * 1024**3 / SIZE),
        stands_in=True,
    ),
    _fault("fast growth", "SupportAttachmentGrowthRapid", files_pour_in),
    _fault("S3 down", "SupportAttachmentOffloadFailing", s3_is_down, stands_in=True),
    _fault(
        "file missing",
        "SupportAttachmentIntegrity",
        reported(**{'support_attachment_unrepaired{kind="missing"}': 1}),
        stands_in=True,
    ),
    _fault("relay stuck", "SupportOutboxStalled", reported(support_events_outbox_oldest_seconds=60), stands_in=True),
    _fault("consumer stuck", "SupportEventsConsumerStalled", reported(support_events_stream_lag=500), stands_in=True),
    _fault("poison event", "SupportEventsDeadLettered", reported(support_events_dead_letters=1), stands_in=True),
    _fault("probe fails", "SupportProbeFailing", probe_fails, stands_in=True),
    _fault("probe stopped", "SupportProbeMissing", probe_stops, stands_in=True),
    _fault("service killed", "SupportServiceDown", service_is_killed),
    _fault("event loop held", "SupportEventLoopLag", loop_is_held),
    _fault("5 % of requests fail", "SupportApiErrorBudgetBurnFast", uploads_fail),
    _fault("ticket flood", "SupportTicketTrafficAnomaly[spike]", tickets_flood),
    _fault("ticket silence", "SupportTicketTrafficAnomaly[silence]", tickets_stop),
    _fault("a healthy hour", "", nothing),
)
