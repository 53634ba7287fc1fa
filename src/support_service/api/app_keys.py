"""Keys of what the API component stores in the application and in requests, for handlers to use."""

from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from support_service.http.uploads import UploadOptions
from support_service.idempotency.claims import IdempotencyClaim


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


HTTP_OPTIONS = web.AppKey("http_options", HttpOptions)
METRICS_ACCESS = web.AppKey("metrics_access", MetricsAccess)
ADMIN_URL = web.AppKey("admin_url", str)  # base URL of the admin server, if there is one
CLAIM = web.RequestKey("claim", IdempotencyClaim)  # the claim of a request with an Idempotency-Key
SCOPE = web.RequestKey("scope", str)  # the scope of the request's permission, see permissions.py
API_DOCUMENTS = web.AppKey("api_documents", ApiDocuments)
