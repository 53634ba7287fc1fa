"""Each fault of the drill: how it is injected, and exactly which alerts it must raise."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from tests.e2e.drill import breaking, breaking_clients, breaking_files
from tests.e2e.drill.breaking_files import GIB
from tests.e2e.drill.environment import DrillEnvironment, Scenario

Injection = Callable[[DrillEnvironment], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """A fault; `inject` holds it for the length of a block, and repairs it."""

    name: str
    alerts: frozenset[str]  # with their distinguishing label, such as `SupportTimelineSourceDown[order]`
    inject: Injection
    before: Callable[[DrillEnvironment], Awaitable[None]] | None = None  # runs before monitoring starts
    scenario: Scenario = field(default_factory=Scenario)


def _fault(name: str, alerts: str, inject: Injection, **more: object) -> Fault:
    return Fault(name, frozenset(alerts.split()), inject, **more)


BURN = "SupportTimelineErrorBudgetBurnFast"
DOWN = "SupportTimelineSourceDown"
PROBE = "SupportProbeFailing"
REDIS = "SupportRedisFailing[cache] SupportRedisFailing[events] SupportOutboxStalled"
FAULTS = (
    _fault("order hangs", f"{DOWN}[order] {BURN}", breaking.order_hangs),
    _fault(
        "order takes 2.2 s",  # within the default timeouts
        "SupportTimelineLatencyHigh",
        breaking.order_takes_over_two_seconds,
        scenario=Scenario(
            probe=("--event-threshold=5s",),  # the default of the command, which drills shorten
            load={"cases": 6.0, "reads": 60.0},  # few reads are late, so that no error budget burns
        ),
    ),
    _fault("payment answers 500", f"{DOWN}[payment] {BURN}", breaking.payment_fails),
    _fault(
        "payment answers are invalid",
        f"SupportTimelineCollectionFailures[aggregate] {PROBE} {BURN}",
        breaking.payment_answers_are_invalid,
    ),
    _fault("all sources down", f"{DOWN}[order] {DOWN}[payment] {DOWN}[fulfillment] {BURN}", breaking.sources_are_down),
    _fault("Redis killed", REDIS, breaking.redis_is_killed),
    _fault("Redis frozen", REDIS, breaking.redis_freezes),
    _fault("cache corrupt", "SupportTimelineCollectionFailures[cache_decode]", breaking.cache_is_corrupt),
    _fault("cache emptied", "SupportTimelineCacheMissSurge", breaking.cache_is_emptied),
    _fault(
        "backlog high",
        "SupportAttachmentBacklogHigh",
        breaking_files.backlog_is_high,
        before=breaking_files.fill_backlog,
    ),
    _fault(
        "disk nearly full",
        "SupportAttachmentDiskFull",
        breaking_files.disk_fills_up,
        scenario=Scenario(disk=18 * GIB, settings={"SUPPORT_ATTACHMENT_DISK_RESERVE": str(GIB // 4)}),
    ),
    _fault("fast growth", "SupportAttachmentGrowthRapid", breaking_files.files_grow_fast),
    _fault("S3 down", "SupportAttachmentOffloadFailing", breaking_files.s3_is_down, scenario=Scenario(s3=True)),
    _fault(
        "file missing",
        "SupportAttachmentIntegrity",
        breaking_files.file_is_missing,
        before=breaking_files.upload_large_file,
        scenario=Scenario(settings={"DRILL_SWEEP_EVERY": "1"}),  # the default of an hour is too long for a drill
    ),
    _fault(
        "relay stuck",
        "SupportRedisFailing[events] SupportOutboxStalled",
        breaking.events_redis_is_down,
        scenario=Scenario(separate_events_redis=True),
    ),
    _fault("streams not fed", "SupportStreamLagHigh", breaking.streams_are_not_fed),
    _fault("consumer stuck", f"SupportEventsConsumerStalled {PROBE}", breaking.consumer_is_stuck),
    _fault("invalid event", "SupportEventsDeadLettered", breaking.event_is_invalid),
    _fault("probe fails", PROBE, breaking.consumer_may_not_read),  # too few events for the other alerts
    _fault("probe stopped", "SupportProbeMissing", breaking.probe_stops),
    _fault("service killed", "SupportServiceDown", breaking.service_is_killed),
    _fault("event loop blocked", "SupportEventLoopLag", breaking.event_loop_is_blocked),
    _fault("audit log not sealed", "SupportAuditUnsealed", breaking.sealing_is_refused),
    _fault("answers come late", "SupportSlaBreaching", breaking.answers_come_late),
    _fault("breaches not reported", "SupportSlaClockStalled", breaking.breaches_are_not_reported),
    _fault("5 % of requests fail", "SupportApiErrorBudgetBurnFast SupportUploadsRefused", breaking_files.uploads_fail),
    _fault("many new cases", "SupportTicketTrafficAnomaly[spike]", breaking.case_volume_is_high),
    _fault("no new cases", "SupportTicketTrafficAnomaly[silence]", breaking.no_cases_are_opened),
    _fault("no request", "SupportNoTraffic", breaking_clients.nothing_is_sent),
    _fault("database refuses cases", "SupportDatabaseFailing", breaking_clients.database_refuses_cases),
    _fault("webhook down", "SupportWebhooksFailing", breaking_clients.webhook_is_down, scenario=Scenario(webhook=True)),
    _fault("invalid requests", "SupportClientErrorsHigh", breaking_clients.a_client_sends_invalid_cases),
    _fault(
        "too many requests",
        f"SupportRequestsTurnedAway {PROBE}",  # the probe has the address of the clients
        breaking_clients.clients_send_too_much,
        scenario=Scenario(settings={"SUPPORT_RATE_LIMIT_ADDRESS": "40/s"}),
    ),
    _fault("scrapes blocked", "SupportMetricsMissing", breaking_clients.scrapes_are_blocked),
    _fault("a replica down", "SupportReplicaDown", breaking_clients.a_replica_is_down),
    _fault("probe fails at times", "SupportProbeFlapping", breaking_clients.probe_fails_at_times),
    _fault("a healthy hour", "", breaking.no_fault, scenario=Scenario(s3=True)),
)
