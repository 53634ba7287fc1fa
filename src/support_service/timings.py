"""The timings of the whole service, which its tests change. Operators do not set them."""

from dataclasses import dataclass, field
from datetime import timedelta

from support_service.events.broker.base import RedisBrokerTimings
from support_service.events.consumer import ConsumerTimings
from support_service.events.relay import RelayTimings
from support_service.events.webhook_sender import WebhookTimings
from support_service.guard.fair_turns import TurnLimits
from support_service.guard.guard import GuardTimings
from support_service.oncall.judge import OncallTimings
from support_service.platform.access.timings import AccessTimings
from support_service.platform.database import DatabaseTimings
from support_service.platform.telemetry.telemetry import TelemetryTimings
from support_service.stream.service import StreamTimings
from support_service.timeline.aggregator import AggregatorTimings
from support_service.timeline.cache import RedisCacheTimings
from support_service.timeline.overrides import REFRESH_INTERVAL
from support_service.timeline.source_health import BreakerTimings


@dataclass(frozen=True, slots=True)
class TimelineTimings:
    """Times in seconds."""

    override_refresh_interval: float = REFRESH_INTERVAL
    aggregator: AggregatorTimings = AggregatorTimings()
    breaker: BreakerTimings = BreakerTimings()
    redis: RedisCacheTimings = RedisCacheTimings()


@dataclass(frozen=True, slots=True)
class EventTimings:
    """Intervals and limits of events."""

    backlog_refresh_interval: float = 5.0  # seconds between refreshes of the gauges of outbox, stream and webhooks
    broker: RedisBrokerTimings = field(default_factory=RedisBrokerTimings)
    log: RedisBrokerTimings = field(default_factory=RedisBrokerTimings)
    relay: RelayTimings = field(default_factory=RelayTimings)
    consumer: ConsumerTimings = field(default_factory=ConsumerTimings)
    webhooks: WebhookTimings = field(default_factory=WebhookTimings)


@dataclass(frozen=True, slots=True)
class ApiTimings:
    """Timeouts and intervals in seconds, and limits."""

    ping_timeout: float = 1.0  # of the database ping: readiness probes wait no longer
    dependency_interval: float = 10.0  # between checks of the dependencies for the metrics
    redis_interval: float = 1.0  # between checks of a server that is configured as Redis, until it answers
    stale_after: timedelta = timedelta(seconds=30)  # on-call's figures are read every 10 seconds or more often
    turns: TurnLimits = field(default_factory=TurnLimits)  # of searches and counts
    bulk_turns: TurnLimits = field(default_factory=lambda: TurnLimits(total=2))


@dataclass(frozen=True, slots=True)
class Timings:
    """Intervals, timeouts, batch sizes and limits that operators do not set, with their production defaults."""

    telemetry: TelemetryTimings = field(default_factory=TelemetryTimings)
    guard: GuardTimings = field(default_factory=GuardTimings)
    access: AccessTimings = field(default_factory=AccessTimings)
    database: DatabaseTimings = field(default_factory=DatabaseTimings)
    timeline: TimelineTimings = field(default_factory=TimelineTimings)
    max_policies: int = 100
    events: EventTimings = field(default_factory=EventTimings)
    stream: StreamTimings = field(default_factory=StreamTimings)
    api: ApiTimings = field(default_factory=ApiTimings)
    oncall: OncallTimings = field(default_factory=OncallTimings)
