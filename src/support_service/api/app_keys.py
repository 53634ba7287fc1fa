"""What the composition root puts into the app, and handlers take out of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from support_service.access.authenticator import Authenticator
from support_service.attachments.service import AttachmentService
from support_service.cases.masking import Mask
from support_service.cases.service import SupportService
from support_service.database import Database
from support_service.events.consumer import Consumer
from support_service.http.uploads import UploadOptions
from support_service.idempotency.claims import Claims
from support_service.telemetry.provider import Metrics
from support_service.timeline.aggregator import TimelineAggregator
from support_service.timeline.cache.memory import Cache


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """What the HTTP layer itself can be told."""

    public_url: str
    uploads: UploadOptions
    streams: tuple[str, str]  # of events out, and in
    redirect_downloads: bool = False
    secured: bool = False  # whether callers must say who they are


@dataclass(frozen=True, slots=True)
class Scrapes:
    """Whether an app answers /metrics, and the token that it asks for then."""

    open: bool = True
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Description:
    """The API as others read it, each made when it is first asked for."""

    openapi: Callable[[], bytes]
    asyncapi: Callable[[], bytes]
    page: Callable[[], str]
    page_policy: Callable[[], str]  # what a browser may load for the page


CLAIMS = web.AppKey("claims", Claims)
SUPPORT = web.AppKey("support", SupportService)
TIMELINE = web.AppKey("timeline", TimelineAggregator)
ATTACHMENTS = web.AppKey("attachments", AttachmentService)
EVENTS = web.AppKey("events", Consumer)
DATABASE = web.AppKey("database", Database)
CACHE = web.AppKey("cache", Cache)
METRICS = web.AppKey("metrics", Metrics)
HTTP = web.AppKey("http", HttpOptions)
AUTHENTICATOR = web.AppKey("authenticator", Authenticator)
SCRAPES = web.AppKey("scrapes", Scrapes)
ADMIN = web.AppKey("admin", str)  # the address of metrics and health, where they have one of their own
MASK = web.AppKey("mask", Mask)
REACH = web.RequestKey("reach", str)  # which cases what is asked reaches for this caller, see permissions.py
DESCRIPTION = web.AppKey("description", Description)
