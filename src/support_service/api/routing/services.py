"""The parts of the app that endpoints and handlers use, and their options."""

from dataclasses import dataclass, field
from datetime import timedelta

from aiohttp import web

from support_service.api.case_document.reading import CaseDocuments
from support_service.api.dependency_status import DependencyMonitor
from support_service.api.oncall_parts import OnCallParts
from support_service.api.routing.cursors import CursorSeal
from support_service.api.routing.route import Route
from support_service.attachments.service import AttachmentService
from support_service.cases.links import LinkService
from support_service.cases.masking import Masker
from support_service.cases.service import CaseService
from support_service.desk.macros import MacroService
from support_service.desk.policies import PolicyService
from support_service.desk.views import ViewService
from support_service.events.consumer import EventConsumer
from support_service.events.dead_letters import DeadLetterService
from support_service.events.deliveries import DeliveryService
from support_service.guard.admission import Admission
from support_service.guard.fair_turns import FairTurns, TurnLimits
from support_service.guard.overload import Readiness
from support_service.guard.uploads import UploadOptions
from support_service.platform.access.authenticator import Authenticator
from support_service.platform.access.sessions import BrowserSessions
from support_service.platform.database import Database
from support_service.platform.idempotency.claims import IdempotencyService
from support_service.platform.telemetry.provider import Metrics
from support_service.stream.service import ChangeStream
from support_service.timeline.aggregator import TimelineAggregator
from support_service.timeline.cache import SnapshotStore
from support_service.timeline.overrides import OverrideService


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """Settings of the API."""

    public_url: str
    uploads: UploadOptions
    streams: tuple[str, str]  # names of the event streams: outbound, inbound
    redirect_downloads: bool = False
    secured: bool = False  # authentication is required


@dataclass(frozen=True, slots=True)
class MetricsAccess:
    """Access to /metrics: whether it is open, and the bearer token it requires, if any."""

    open: bool = True
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ApiTimings:
    """Timeouts and intervals in seconds, and limits."""

    ping_timeout: float = 1.0  # of the database ping: readiness probes wait no longer
    dependency_interval: float = 10.0  # between checks of the dependencies for the metrics
    stale_after: timedelta = timedelta(seconds=30)  # on-call's figures are read every 10 seconds or more often
    turns: TurnLimits = field(default_factory=TurnLimits)  # of searches and counts


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the app that endpoints and handlers use."""

    authenticator: Authenticator
    sessions: BrowserSessions | None  # None without authentication
    admission: Admission
    readiness: Readiness
    dependencies: DependencyMonitor
    database: Database
    cases: CaseService
    turns: FairTurns  # of searches and counts
    documents: CaseDocuments
    links: LinkService
    timeline: TimelineAggregator
    macros: MacroService
    policies: PolicyService
    attachments: AttachmentService
    views: ViewService
    overrides: OverrideService
    on_call: OnCallParts
    consumer: EventConsumer
    dead_letters: DeadLetterService
    deliveries: DeliveryService
    stream: ChangeStream
    cache: SnapshotStore
    idempotency: IdempotencyService
    metrics: Metrics
    metrics_access: MetricsAccess
    masker: Masker
    routes: tuple[Route, ...]
    cursors: CursorSeal
    options: ApiOptions
    timings: ApiTimings


SERVICES = web.AppKey("services", Services)
