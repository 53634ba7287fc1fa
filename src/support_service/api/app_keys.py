"""Application keys: the components that the composition root stores in the app, for handlers to use."""

from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from support_service.access.authenticator import Authenticator
from support_service.attachments.service import AttachmentService
from support_service.cases.masking import CaseMasker
from support_service.cases.service import CaseService
from support_service.database import Database
from support_service.events.consumer import EventConsumer
from support_service.http.uploads import UploadOptions
from support_service.idempotency.claims import IdempotencyClaim, IdempotencyService
from support_service.telemetry.provider import Metrics
from support_service.timeline.aggregator import TimelineAggregator
from support_service.timeline.cache.memory import SnapshotStore


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Settings of the HTTP layer."""

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
class ApiDocuments:
    """Functions that return the API descriptions; each description is built on first use."""

    openapi: Callable[[], bytes]
    asyncapi: Callable[[], bytes]
    page: Callable[[], str]
    page_policy: Callable[[], str]  # Content-Security-Policy of the page


CLAIMS = web.AppKey("claims", IdempotencyService)
CASES = web.AppKey("support", CaseService)
TIMELINE = web.AppKey("timeline", TimelineAggregator)
ATTACHMENTS = web.AppKey("attachments", AttachmentService)
EVENT_CONSUMER = web.AppKey("events", EventConsumer)
DATABASE = web.AppKey("database", Database)
CACHE = web.AppKey("cache", SnapshotStore)
METRICS = web.AppKey("metrics", Metrics)
HTTP_OPTIONS = web.AppKey("http", HttpOptions)
AUTHENTICATOR = web.AppKey("authenticator", Authenticator)
METRICS_ACCESS = web.AppKey("scrapes", MetricsAccess)
ADMIN_URL = web.AppKey("admin", str)  # base URL of the admin server, if there is one
MASK = web.AppKey("mask", CaseMasker)
CLAIM = web.RequestKey("claim", IdempotencyClaim)  # the claim of a request with an Idempotency-Key
SCOPE = web.RequestKey("reach", str)  # the scope of the request's permission, see permissions.py
API_DOCUMENTS = web.AppKey("description", ApiDocuments)
