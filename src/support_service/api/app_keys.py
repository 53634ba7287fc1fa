"""Application keys: the components that the composition root stores in the app, for handlers to use."""

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
    """Settings of the HTTP layer."""

    public_url: str
    uploads: UploadOptions
    streams: tuple[str, str]  # names of the event streams: outbound, inbound
    redirect_downloads: bool = False
    secured: bool = False  # authentication is required


@dataclass(frozen=True, slots=True)
class Scrapes:
    """Access to /metrics: whether it is open, and the bearer token it requires, if any."""

    open: bool = True
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Description:
    """Functions that return the API descriptions; each description is built on first use."""

    openapi: Callable[[], bytes]
    asyncapi: Callable[[], bytes]
    page: Callable[[], str]
    page_policy: Callable[[], str]  # Content-Security-Policy of the page


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
ADMIN = web.AppKey("admin", str)  # base URL of the admin server, if there is one
MASK = web.AppKey("mask", Mask)
REACH = web.RequestKey("reach", str)  # the scope of the request's permission, see permissions.py
DESCRIPTION = web.AppKey("description", Description)
