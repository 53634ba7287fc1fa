"""Each fault of the drill: how it is injected, exactly which alerts it must raise, and which check tells its cause."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

from observability import rules

from tests.e2e.drill import (
    breaking,
    breaking_clients,
    breaking_database,
    breaking_events,
    breaking_files,
    breaking_redis,
    breaking_replicas,
    breaking_sources,
)
from tests.e2e.drill.breaking_files import GIB
from tests.e2e.drill.deployment import Deployment, Scenario
from tests.e2e.drill.runbook_checks import Cause

Injection = Callable[[Deployment], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """A fault; `inject` holds it for the length of a block, and repairs it."""

    name: str
    alerts: tuple[str, ...]  # with their distinguishing label, such as `SupportTimelineSourceDown[order]`
    inject: Injection
    causes: tuple[Cause, ...] = ()  # none for a control, which must raise nothing
    before: Callable[[Deployment], Awaitable[None]] | None = None  # runs before monitoring starts
    scenario: Scenario = field(default_factory=Scenario)
    resolved_within: int = 5  # evaluations after the repair


def together(*faults: Fault) -> Fault:
    """Return faults of one scenario, which raise alerts and have causes of their own, as one fault."""

    @asynccontextmanager
    async def inject(deployment: Deployment) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for fault in faults:
                await stack.enter_async_context(fault.inject(deployment))
            yield

    return Fault(
        ", ".join(fault.name for fault in faults),
        tuple(alert for fault in faults for alert in fault.alerts),
        inject,
        tuple(cause for fault in faults for cause in fault.causes),
        resolved_within=max(fault.resolved_within for fault in faults) + len(faults),  # they are repaired in turn
    )


def _fault(name: str, alerts: str, inject: Injection, cause: Cause | None = None, **more: object) -> Fault:
    """Return a fault; the check that tells its cause is on the page of its first alert unless it names another."""
    names = tuple(alerts.split())
    if cause is None:
        return Fault(name, names, inject, **more)
    page = cause.page or PAGES[names[0].partition("[")[0]]
    return Fault(name, names, inject, (replace(cause, page=page),), **more)


PAGES = {alert.name: alert.runbook for alert in rules.ALERTS}
BURN = "SupportTimelineErrorBudgetBurnFast"
DOWN = "SupportTimelineSourceDown"
DATABASE = "SupportDatabaseFailing"
PROBE = "SupportProbeFailing"
REDIS = "SupportRedisFailing[events] SupportRedisFailing[cache] SupportOutboxStalled"
MANIPULATED = Scenario(manipulated=True)
S3_STORE = {"SUPPORT_ATTACHMENT_STORE": "s3"}
OFFLOADING = {"SUPPORT_OFFLOAD_AFTER": "1s", "SUPPORT_OFFLOAD_GRACE": "1s"}

DATABASE_FAULTS = (
    _fault("PostgreSQL down", DATABASE, breaking_database.postgresql_is_down, Cause(3, "database_unavailable")),
    _fault(
        "PostgreSQL frozen",
        DATABASE,
        breaking_database.postgresql_freezes,
        Cause(4, "can't be used"),
        resolved_within=8,  # what hangs is given up first
    ),
    _fault("tickets locked", DATABASE, breaking_database.tickets_are_locked, Cause(4, r"psql +tests[\s\S]*on tickets")),
    _fault("outbox locked", DATABASE, breaking_database.outbox_is_locked, Cause(4, r"psql +tests[\s\S]*on outbox")),
    _fault(
        "a row locked",
        DATABASE,
        breaking_database.ledger_row_is_locked,
        Cause(4, r"psql +tests[\s\S]*UPDATE attachment_ledger"),
    ),
    _fault(
        "connection pool exhausted",
        DATABASE,
        breaking_database.statements_are_slow,
        Cause(2, "database_pool_exhausted"),
    ),
    _fault(
        "max_connections reached",
        DATABASE,
        breaking_database.connections_are_used_up,
        Cause(2, "database_connections_exhausted"),
    ),
    _fault("database read-only", DATABASE, breaking_database.database_is_read_only, Cause(2, "database_read_only")),
    _fault("disk of the database full", DATABASE, breaking_database.database_disk_is_full, Cause(2, "database_full")),
    _fault("migration missing", "SupportServiceDown", breaking_database.migration_is_missing, Cause(2, "migrat")),
)
REDIS_FAULTS = (
    _fault("Redis killed", REDIS, breaking_redis.redis_is_killed, Cause(1, "refused")),
    _fault("Redis frozen", REDIS, breaking_redis.redis_freezes, Cause(4, "Redis is unavailable")),
    _fault("Redis full", REDIS, breaking_redis.redis_is_full, Cause(3, r'"server": "events"} [1-9]')),
    _fault("Redis read-only", REDIS, breaking_redis.redis_is_read_only, Cause(2, "role:slave")),
    _fault("Redis may evict", "SupportRedisEvicting", breaking_redis.redis_may_evict, Cause(1, "allkeys-lru")),
    _fault(
        "cache corrupt",
        "SupportTimelineCollectionFailures[cache_decode]",
        breaking_redis.cache_is_corrupt,
        Cause(4, "can't be read, and is removed"),
    ),
    _fault(
        "cache emptied",
        "SupportTimelineCacheMissSurge",
        breaking_redis.cache_is_emptied,
        Cause(2, r'"miss"} [1-9]'),
    ),
)
SOURCE_FAULTS = (
    _fault("order hangs", f"{DOWN}[order] {BURN}", breaking_sources.order_hangs, Cause(1, r'"order"} [\d.]+')),
    _fault(
        "order takes 2.2 s",  # within the default timeouts
        "SupportTimelineLatencyHigh",
        breaking_sources.order_takes_over_two_seconds,
        Cause(1, r'"order"} 2\.'),
        scenario=Scenario(
            probe=("--event-threshold=5s",),  # the default of the command, which drills shorten
            load={"cases": 6.0, "reads": 60.0},  # few reads are late, so that no error budget burns
        ),
    ),
    _fault(
        "payment answers 500",
        f"{DOWN}[payment] {BURN}",
        breaking_sources.payment_fails,
        Cause(4, "payment.*with status 500"),
    ),
    _fault(
        "payment answers are invalid",
        f"SupportTimelineCollectionFailures[aggregate] {PROBE} {BURN}",
        breaking_sources.payment_answers_are_invalid,
        Cause(3, "payment.*off the contract"),
    ),
    _fault(
        "all sources down",
        f"{DOWN}[order] {DOWN}[payment] {DOWN}[fulfillment] {BURN}",
        breaking_sources.sources_are_down,
        Cause(4, "broke off|can't be reached"),
    ),
    _fault(
        "certificate of order expired",
        f"{DOWN}[order] {BURN}",
        breaking_sources.certificate_of_order_expires,
        Cause(3, "certificate has expired", typed="order"),
        scenario=Scenario(certificate=timedelta(days=90)),
    ),
    _fault(
        "certificate of order expires soon",
        "SupportCertificateExpiring",
        breaking_sources.certificate_of_order_is_old,
        Cause(1, r'"order"} 0\.'),
        scenario=Scenario(certificate=timedelta(days=90)),
    ),
)
FILE_FAULTS = (
    _fault(
        "backlog high",
        "SupportAttachmentBacklogHigh",
        breaking_files.backlog_is_high,
        Cause(1, r"1\.[67]\d*e\+07"),
        before=breaking_files.fill_backlog,
    ),
    _fault(
        "disk nearly full",
        "SupportAttachmentDiskFull",
        breaking_files.disk_fills_up,
        Cause(2, r"9\d%"),
        scenario=Scenario(disk=18 * GIB, settings={"SUPPORT_ATTACHMENT_DISK_RESERVE": str(GIB // 4)}),
    ),
    _fault("fast growth", "SupportAttachmentGrowthRapid", breaking_files.files_grow_fast, Cause(1, r"^{} [1-9]\d")),
    _fault(
        "S3 down",
        "SupportAttachmentOffloadFailing",
        breaking_files.s3_is_down,
        Cause(1, r'"failed"} [1-9]'),
        scenario=Scenario(settings=OFFLOADING),
    ),
    _fault(
        "S3 credentials expired",
        "SupportUploadsRefused",
        breaking_files.s3_refuses_credentials,
        Cause(3, "ExpiredToken"),
        scenario=Scenario(settings=S3_STORE),
    ),
    _fault(
        "S3 slow",
        PROBE,
        breaking_files.s3_is_slow,
        Cause(5, r'"upload".*} [3-9]'),
        scenario=Scenario(settings=S3_STORE),
    ),
    _fault(
        "file missing",
        "SupportAttachmentIntegrity",
        breaking_files.file_is_missing,
        Cause(1, '"missing"} 1'),
        before=breaking_files.upload_large_file,
        scenario=Scenario(settings={"DRILL_SWEEP_EVERY": "1"}),  # the default of an hour is too long for a drill
        resolved_within=10,  # each replica has to end a sweep that began before the repair, and the next one
    ),
    _fault(
        "5 % of requests fail",
        "SupportUploadsRefused SupportApiErrorBudgetBurnFast",
        breaking_files.uploads_fail,
        Cause(4, "-rw"),
    ),
)
EVENT_FAULTS = (
    _fault(
        "relay stuck",
        "SupportRedisFailing[events] SupportOutboxStalled",
        breaking_events.events_redis_is_down,
        Cause(1, "refused"),
        scenario=Scenario(separate_events_redis=True),
    ),
    _fault("streams not fed", "SupportStreamLagHigh", breaking_events.streams_are_not_fed, Cause(3, "NOPERM")),
    _fault(
        "consumer stuck",
        f"SupportEventsConsumerStalled {PROBE}",
        breaking_events.consumer_is_stuck,
        Cause(3, "Consuming events is interrupted.*permission|Consuming events"),
    ),
    _fault("invalid event", "SupportEventsDeadLettered", breaking_events.event_is_invalid, Cause(1, '"reason"')),
    _fault(
        "audit log not sealed",
        "SupportAuditUnsealed",
        breaking_events.sealing_is_refused,
        Cause(3, "InsufficientPrivilege"),
    ),
    _fault("answers come late", "SupportSlaBreaching", breaking_events.answers_come_late, Cause(1, '"firstResponse"')),
    _fault(
        "breaches not reported",
        "SupportSlaClockStalled",
        breaking_events.breaches_are_not_reported,
        Cause(2, "Reporting breaches of service levels failed"),
    ),
)
REPLICA_FAULTS = (
    _fault("a replica frozen", "SupportReplicaDown", breaking_replicas.one_freezes, Cause(1, '"REPLICA".* 0$')),
    _fault("a replica killed", "SupportReplicaDown", breaking_replicas.one_is_killed, Cause(1, '"REPLICA".* 0$')),
    _fault(
        "a replica crashes again and again",
        "SupportRestartLoop",
        breaking_replicas.one_crashes_again_and_again,
        Cause(1, '"REPLICA".* [3-9]$'),
        resolved_within=16,  # the window of the alert
    ),
    _fault(
        "clock of a replica 10 min off",
        "SupportClockOffset",
        breaking_replicas.one_has_a_wrong_clock,
        Cause(1, '"REPLICA".* -[1-9]'),
        scenario=MANIPULATED,
    ),
    _fault(
        "a replica lacks CPU",
        "SupportEventLoopLag",
        breaking_replicas.one_lacks_cpu,
        Cause(1, r'"REPLICA".* 0\.[2-9]'),
    ),
    _fault(
        "a replica without its volume",
        "SupportUploadsRefused SupportApiErrorBudgetBurnFast",
        breaking_replicas.one_lacks_its_volume,
        Cause(1, '"REPLICA".*storage_unavailable'),
        scenario=MANIPULATED,
    ),
    _fault(
        "a replica out of file descriptors",
        "SupportReplicaSaturated",
        breaking_replicas.one_runs_out_of_descriptors,
        Cause(2, r'"REPLICA".* (0\.9|1)'),
    ),
    _fault(
        "a new replica does not start",
        "SupportReplicaDown",
        breaking_replicas.a_new_one_does_not_start,
        Cause(3, 'role "nobody" does not exist'),
        resolved_within=12,  # Prometheus takes 5 s to forget a target
    ),
    _fault(
        "a replica never ready",
        "SupportReplicaNotReady",
        breaking_replicas.one_does_not_end,
        Cause(2, '"REPLICA".* 0$'),
        scenario=MANIPULATED,
    ),
    _fault("all replicas killed", "SupportServiceDown", breaking_replicas.all_are_killed, Cause(1, "^$")),
)
CLIENT_FAULTS = (
    _fault(
        "token file emptied",
        "SupportAccessRefused",
        breaking_clients.tokens_are_emptied,
        Cause(3, "token file changed"),
    ),
    _fault(
        "keys rotated while unreachable",
        "SupportAccessRefused",
        breaking_clients.keys_are_rotated_unseen,
        Cause(3, "SUPPORT_JWT_KEYS can't be loaded"),
        scenario=Scenario(jwt=True),
    ),
    _fault(
        "keys unreachable",
        "SupportAccessKeysStale[keys]",
        breaking_clients.keys_cannot_be_read,
        Cause(2, "SUPPORT_JWT_KEYS can't be loaded"),
        scenario=Scenario(jwt=True),
    ),
    _fault(
        "59 % of answers are 422",
        "SupportClientErrorsHigh",
        breaking_clients.a_client_sends_invalid_cases,
        Cause(1, '"422".* [1-9]'),
    ),
    _fault(
        "67 % of requests get 429",
        "SupportRequestsTurnedAway",
        breaking_clients.clients_send_too_much,
        Cause(1, '"address"'),
        scenario=Scenario(settings={"SUPPORT_RATE_LIMIT_ADDRESS": "36/s"}),
    ),
    _fault(
        "many new cases", "SupportTicketTrafficAnomaly[spike]", breaking_clients.case_volume_is_high, Cause(1, "email")
    ),
    _fault(
        "no new cases", "SupportTicketTrafficAnomaly[silence]", breaking_clients.no_cases_are_opened, Cause(1, "} 0$")
    ),
    _fault("no request", "SupportNoTraffic", breaking_clients.nothing_is_sent, Cause(2, '"other"} 0$')),
    _fault(
        "ingress answers 404",
        "SupportIngressFailing",
        breaking_clients.nothing_is_routed,
        Cause(1, '"status": "404"'),
    ),
    _fault(
        "webhook down",
        "SupportWebhooksFailing",
        breaking_clients.webhook_is_down,
        Cause(2, "500"),
    ),
)
MONITORING_FAULTS = (
    _fault("scrapes blocked", "SupportMetricsMissing", breaking_clients.scrapes_are_blocked, Cause(2, "refused")),
    _fault("probe fails", PROBE, breaking_events.consumer_may_not_read, Cause(4, "} [1-9]")),
    _fault(
        "probe fails at times",
        "SupportProbeFlapping",
        breaking_events.probe_fails_at_times,
        Cause(1, r'"timeline".*} 0\.'),
    ),
    _fault("probe stopped", "SupportProbeMissing", breaking_clients.probe_stops, Cause(2, " 0$")),
)
CONTROLS = (
    _fault("a healthy hour", "", breaking.no_fault, scenario=Scenario(settings=OFFLOADING)),
    _fault("a rolling restart", "", breaking_replicas.they_are_replaced_one_by_one),
    _fault("a failover of the database", "", breaking_database.database_fails_over),
)
FAULTS = (
    *DATABASE_FAULTS,
    *REPLICA_FAULTS,
    *REDIS_FAULTS,
    *CLIENT_FAULTS,
    *SOURCE_FAULTS,
    *FILE_FAULTS,
    *EVENT_FAULTS,
    *MONITORING_FAULTS,
    *CONTROLS,
)
