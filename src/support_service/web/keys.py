"""What the composition root puts into the app, and handlers take out of it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from support_service.access.authenticator import Authenticator
from support_service.attachments.service import AttachmentService
from support_service.cases.masking import Mask
from support_service.cases.service import SupportService
from support_service.database import Database
from support_service.events.consumer import Consumer
from support_service.idempotency.claims import Claims
from support_service.telemetry.http import RequestMetrics
from support_service.telemetry.provider import Metrics
from support_service.timeline.aggregator import TimelineAggregator
from support_service.timeline.cache import Cache
from support_service.web.crowd import Crowd


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """How large an upload may be, and how slow."""

    max_bytes: int
    min_rate: float  # bytes a second, on the average
    deadline: float  # seconds for the whole body


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


@dataclass(slots=True)
class Readiness:
    """Whether new requests are welcome, which the stop ends before anything else, and how many are in work."""

    accepting: bool = True
    stop_by: float = 0.0  # until when, by the loop's clock, a stop may wait for what is in work
    working: int = 0
    waiting: int = 0  # of those in work: for their client alone, which costs nothing but a connection
    ping: asyncio.Task[None] | None = None  # the one question that the database is asked at a time

    @contextmanager
    def for_client(self) -> Iterator[None]:
        """Count a request as one that waits for its client, for the length of a block."""
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1


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
REQUESTS = web.AppKey("requests", RequestMetrics)
HTTP = web.AppKey("http", HttpOptions)
CROWD = web.AppKey("crowd", Crowd)
READINESS = web.AppKey("readiness", Readiness)
AUTHENTICATOR = web.AppKey("authenticator", Authenticator)
SCRAPES = web.AppKey("scrapes", Scrapes)
ADMIN = web.AppKey("admin", str)  # the address of metrics and health, where they have one of their own
MASK = web.AppKey("mask", Mask)
REACH = web.RequestKey("reach", str)  # which cases what is asked reaches for this caller, see permissions.py
DESCRIPTION = web.AppKey("description", Description)
