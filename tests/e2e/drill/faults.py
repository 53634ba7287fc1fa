"""What is broken, how it is repaired, and which alerts are to be told of it: these and no others."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from tests.e2e.drill import breaking, breaking_files
from tests.e2e.drill.breaking_files import GIB
from tests.e2e.drill.stage import Scene, Stage

Broken = Callable[[Stage], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """One thing that breaks: `broken` holds it so for the length of a block, and leaves it repaired."""

    name: str
    alerts: frozenset[str]  # with the label that tells them apart, as `SupportTimelineSourceDown[order]`
    broken: Broken
    before: Callable[[Stage], Awaitable[None]] | None = None  # done before anyone watches
    scene: Scene = field(default_factory=Scene)


def _fault(name: str, alerts: str, broken: Broken, **more: object) -> Fault:
    return Fault(name, frozenset(alerts.split()), broken, **more)


BURN = "SupportTimelineErrorBudgetBurnFast"
DOWN = "SupportTimelineSourceDown"
PROBE = "SupportProbeFailing"
FAULTS = (
    _fault("order hangs", f"{DOWN}[order] {BURN}", breaking.order_hangs),
    _fault(
        "order is slow",
        "SupportTimelineLatencyHigh",
        breaking.order_is_slow,
        scene=Scene(
            settings={
                "SUPPORT_TIMELINE_SOURCE_TIMEOUT": "4",
                "SUPPORT_TIMELINE_DEADLINE": "5",
                "SUPPORT_TIMELINE_CONNECTIONS": "128",  # slow, and not short of places
            },
            probe=("--threshold=5s", "--event-threshold=10s"),  # who lets timelines take 5 s tells the probe
            load={"opened": 8.0, "reads": 70.0},  # of the reads, few are late: no budget burns
        ),
    ),
    _fault("payment answers 500", f"{DOWN}[payment] {BURN}", breaking.payment_fails),
    _fault(
        "payment answers nonsense",
        f"SupportTimelineCollectionFailures[aggregate] {PROBE} {BURN}",
        breaking.payment_talks_nonsense,
    ),
    _fault("all sources down", f"{DOWN}[order] {DOWN}[payment] {DOWN}[fulfillment] {BURN}", breaking.sources_are_down),
    _fault("Redis killed", "SupportTimelineCacheErrors", breaking.redis_is_killed),
    _fault("Redis frozen", "SupportTimelineCacheErrors", breaking.redis_freezes),
    _fault("cache corrupt", "SupportTimelineCollectionFailures[cache_decode]", breaking.cache_is_corrupt),
    _fault("cache forgets", "SupportTimelineCacheMissSurge", breaking.cache_forgets),
    _fault("backlog high", "SupportAttachmentBacklogHigh", breaking_files.backlog_is_high, before=breaking_files.fill),
    _fault(
        "disk nearly full",
        "SupportAttachmentDiskFull",
        breaking_files.disk_fills_up,
        scene=Scene(disk=18 * GIB, settings={"SUPPORT_ATTACHMENT_DISK_RESERVE": str(GIB // 4)}),
    ),
    _fault("fast growth", "SupportAttachmentGrowthRapid", breaking_files.files_pour_in),
    _fault("S3 down", "SupportAttachmentOffloadFailing", breaking_files.s3_is_down, scene=Scene(s3=True)),
    _fault(
        "file missing",
        "SupportAttachmentIntegrity",
        breaking_files.file_is_missing,
        before=breaking_files.keep_one,
        scene=Scene(settings={"DRILL_SWEEP_EVERY": "1"}),  # an hour is no part of the drill
    ),
    _fault("relay stuck", "SupportOutboxStalled", breaking.events_redis_is_down, scene=Scene(events_apart=True)),
    _fault("consumer stuck", f"SupportEventsConsumerStalled {PROBE}", breaking.consumer_is_stuck),
    _fault("poison event", "SupportEventsDeadLettered", breaking.event_is_poison),
    _fault("probe fails", PROBE, breaking.consumer_may_not_read),  # too few events for anyone else to notice
    _fault("probe stopped", "SupportProbeMissing", breaking.probe_stops),
    _fault("service killed", "SupportServiceDown", breaking.service_is_killed),
    _fault("event loop held", "SupportEventLoopLag", breaking.loop_is_held),
    _fault("audit log not sealed", "SupportAuditUnsealed", breaking.sealing_is_refused),
    _fault("5 % of requests fail", f"SupportApiErrorBudgetBurnFast {PROBE}", breaking_files.uploads_fail),
    _fault("ticket flood", "SupportTicketTrafficAnomaly[spike]", breaking.tickets_flood),
    _fault("ticket silence", "SupportTicketTrafficAnomaly[silence]", breaking.tickets_stop),
    _fault("a healthy hour", "", breaking.nothing, scene=Scene(s3=True)),
)
