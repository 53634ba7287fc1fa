"""Sections of the settings: frozen models; the alias of each field is the environment variable that sets it."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
)

from support_service.core import units
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES, url_variable
from support_service.settings.values import (
    Algorithms,
    BaseUrl,
    ContentTypes,
    Count,
    DatabaseUrl,
    Duration,
    KeySource,
    MetricsExporters,
    Networks,
    Origins,
    RedisUrl,
    RequestRate,
    Seconds,
    Share,
    Token,
    TracesExporters,
    Webhooks,
    WrongSetting,
    expected_values,
    mask_secrets,
)

AnySection = TypeVar("AnySection", bound="SettingsSection")


class SettingsSection(BaseModel):
    """Base class of the sections; a section is read from the variables that its field aliases name."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, hide_input_in_errors=True)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Read this section only, for a command that needs no other; raises WrongSetting for an invalid value."""
        return read_section(cls, environ)


class Server(SettingsSection):
    """Listening address, authentication mode, shutdown and logging."""

    host: str = Field("127.0.0.1", alias="SUPPORT_HOST", description="address to listen on")
    port: int = Field(8000, alias="SUPPORT_PORT", ge=0, le=65535, description="port to listen on; 0 takes a free one")
    public_url: BaseUrl | None = Field(None, alias="SUPPORT_PUBLIC_URL", description="prefix of attachment addresses")
    auth: Literal["open", "token", "jwt"] = Field(
        "open", alias="SUPPORT_AUTH", description="`open` listens on loopback only"
    )
    masking_key: str | None = Field(
        None,
        alias="SUPPORT_MASKING_KEY",
        description="keeps analysts' pseudonyms the same across replicas and restarts",
    )
    stop_timeout: Seconds = Field(
        10, alias="SUPPORT_STOP_TIMEOUT", gt=0, description="s for requests in progress to complete"
    )
    stop_delay: Seconds = Field(
        0, alias="SUPPORT_STOP_DELAY", ge=0, description="s between not ready and the start of the shutdown"
    )
    access_log: float = Field(0.01, alias="SUPPORT_ACCESS_LOG", ge=0, le=1, description="share of requests logged")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="SUPPORT_LOG_LEVEL")


class LimitSettings(SettingsSection):
    """Rate limits, load limits and client timeouts; trusted proxies and allowed CORS origins."""

    trusted_proxies: Networks = Field(
        (),
        alias="SUPPORT_TRUSTED_PROXIES",
        validate_default=False,
        description="proxies whose X-Forwarded-* headers are trusted",
    )
    cors_origins: Origins = Field(
        (), alias="SUPPORT_CORS_ORIGINS", validate_default=False, description="origins whose pages may call the API"
    )
    rate: RequestRate | None = Field(None, alias="SUPPORT_RATE_LIMIT", description="rate limit of one principal")
    address_rate: RequestRate | None = Field(
        None, alias="SUPPORT_RATE_LIMIT_ADDRESS", description="rate limit of one client address"
    )
    connections: Count = Field(4096, alias="SUPPORT_CONNECTIONS", ge=8, description="concurrent connections")
    requests: Count = Field(1000, alias="SUPPORT_REQUESTS", ge=1, description="concurrent requests")
    lag: Seconds = Field(
        0.5, alias="SUPPORT_SHED_LAG", ge=0, description="s of event loop lag above which load is shed"
    )
    header_timeout: Seconds = Field(
        10, alias="SUPPORT_HEADER_TIMEOUT", gt=0, description="s to receive the headers of a request"
    )
    idle_timeout: Seconds = Field(
        75, alias="SUPPORT_IDLE_TIMEOUT", gt=0, description="s that a connection may be idle between requests"
    )
    send_timeout: Seconds = Field(
        30, alias="SUPPORT_SEND_TIMEOUT", gt=0, description="s that a client may not read its response"
    )


class Database(SettingsSection):
    """The database that stores cases."""

    url: DatabaseUrl = Field("sqlite:///var/support.db", alias="SUPPORT_DATABASE_URL")
    synchronous: Literal["NORMAL", "FULL"] = Field(
        "NORMAL", alias="SUPPORT_SQLITE_SYNCHRONOUS", description="FULL survives a power cut, NORMAL a killed process"
    )
    pool_size: int = Field(10, alias="SUPPORT_DATABASE_POOL", ge=1, le=200, description="PostgreSQL connections")


_UPSTREAM_URLS: dict[str, Any] = {
    service: (BaseUrl | None, Field(None, alias=url_variable(service), description="unset: that source is off"))
    for service in UPSTREAM_SERVICES
}
UpstreamUrls = create_model(
    "UpstreamUrls", __base__=SettingsSection, __doc__="Base URLs of the upstream services.", **_UPSTREAM_URLS
)


class Timeline(SettingsSection):
    """The timeline: timeouts of the upstream services, and the cache."""

    redis_url: RedisUrl | None = Field(None, alias="SUPPORT_REDIS_URL", description="unset: in-process cache")
    redis_timeout: Seconds = Field(0.045, alias="SUPPORT_REDIS_TIMEOUT", gt=0, description="s for Redis to answer")
    cache_ttl: Seconds = Field(300, alias="SUPPORT_TIMELINE_CACHE_TTL", gt=0, description="s that an answer is fresh")
    stale_ttl: Seconds = Field(
        3600,
        alias="SUPPORT_TIMELINE_STALE_TTL",
        ge=0,
        description="additional s for which a stale answer replaces a failed call",
    )
    source_timeout: Seconds = Field(1.5, alias="SUPPORT_TIMELINE_SOURCE_TIMEOUT", gt=0, description="s for one call")
    deadline: Seconds = Field(2.0, alias="SUPPORT_TIMELINE_DEADLINE", gt=0, description="s for all calls of one read")
    connections: Count = Field(
        32, alias="SUPPORT_TIMELINE_CONNECTIONS", ge=1, description="concurrent calls to one source"
    )


class Attachments(SettingsSection):
    """Attachments: storage, upload limits, downloads, retention and re-hashing."""

    directory: Path = Field(Path("var/attachments"), alias="SUPPORT_ATTACHMENT_DIR")
    store: Literal["local", "s3"] = Field("local", alias="SUPPORT_ATTACHMENT_STORE", description="where new files go")
    max_bytes: Count = Field(
        26_214_400, alias="SUPPORT_ATTACHMENT_MAX_BYTES", gt=0, description="maximum bytes of a file"
    )
    disk_reserve: Count = Field(
        268_435_456, alias="SUPPORT_ATTACHMENT_DISK_RESERVE", ge=0, description="bytes of the disk to keep free"
    )
    uploads: Count = Field(64, alias="SUPPORT_ATTACHMENT_UPLOADS", ge=1, description="concurrent uploads")
    min_rate: float = Field(
        1024, alias="SUPPORT_ATTACHMENT_MIN_RATE", ge=0, le=units.MAX_INTEGER, description="bytes/s a client must send"
    )
    deadline: Seconds = Field(3600, alias="SUPPORT_ATTACHMENT_DEADLINE", gt=0, description="s for a whole upload")
    types: ContentTypes | None = Field(None, alias="SUPPORT_ATTACHMENT_TYPES", description="unset: any content type")
    download: Literal["stream", "redirect"] = Field(
        "stream", alias="SUPPORT_ATTACHMENT_DOWNLOAD", description="how files on S3 are downloaded"
    )
    retention: Duration | None = Field(
        None, alias="SUPPORT_RETENTION_AFTER", description="age at which files of closed cases are deleted"
    )
    scrub: Share = Field(0.0, alias="SUPPORT_SCRUB_SAMPLE", description="share of the files re-hashed with each sweep")


class ObjectStore(SettingsSection):
    """The S3-compatible object store; credentials come from the usual AWS_* variables."""

    bucket: str | None = Field(None, alias="SUPPORT_S3_BUCKET", description="unset: files stay on the local disk")
    endpoint: BaseUrl | None = Field(None, alias="SUPPORT_S3_ENDPOINT", description="unset: Amazon S3")
    region: str = Field("us-east-1", alias="SUPPORT_S3_REGION")
    offload_after: Duration | None = Field(
        None, alias="SUPPORT_OFFLOAD_AFTER", description="age at which the service moves files to S3"
    )
    grace: Duration = Field(
        timedelta(seconds=10),
        alias="SUPPORT_OFFLOAD_GRACE",
        description="time after a move until the local copy is deleted",
    )


class Events(SettingsSection):
    """Inbound events, published events and webhooks."""

    redis_url: RedisUrl | None = Field(None, alias="SUPPORT_EVENTS_REDIS_URL", description="unset: SUPPORT_REDIS_URL")
    stream: str = Field("support.events", alias="SUPPORT_EVENTS_STREAM", min_length=1)
    inbound_stream: str = Field("support.inbound", alias="SUPPORT_EVENTS_INBOUND_STREAM", min_length=1)
    keep: Count = Field(
        100_000, alias="SUPPORT_EVENTS_KEEP", ge=1, description="approximate maximum length of the stream"
    )
    consume: bool = Field(
        default=True, alias="SUPPORT_EVENTS_CONSUME", description="false: another process consumes inbound events"
    )
    claim_after: Seconds = Field(
        10,
        alias="SUPPORT_EVENTS_CLAIM_AFTER",
        gt=0,
        description="s until an unacknowledged event is delivered again",
    )
    webhooks: Webhooks = Field((), alias="SUPPORT_WEBHOOKS", validate_default=False)


class Telemetry(SettingsSection):
    """OTEL_* variables that the service reads; the SDK and its exporters read the others themselves."""

    disabled: Annotated[bool, BeforeValidator(lambda value: str(value).strip().lower() == "true")] = Field(
        default=False, alias="OTEL_SDK_DISABLED", description="true switches metrics and traces off"
    )
    metrics_exporter: MetricsExporters = Field(("prometheus",), alias="OTEL_METRICS_EXPORTER", validate_default=False)
    traces_exporter: TracesExporters = Field((), alias="OTEL_TRACES_EXPORTER", validate_default=False)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the names of the metrics exporters; none if the SDK is disabled."""
        return () if self.disabled else self.metrics_exporter

    @property
    def traces(self) -> tuple[str, ...]:
        """Return the names of the trace exporters; none if the SDK is disabled."""
        return () if self.disabled else self.traces_exporter


class Access(SettingsSection):
    """Authentication of callers (tokens, JWTs), and access to metrics and the admin port."""

    tokens_file: Path = Field(Path("var/tokens.json"), alias="SUPPORT_TOKENS_FILE")
    jwt_keys: KeySource | None = Field(None, alias="SUPPORT_JWT_KEYS", description="URL of a JWKS, or a file")
    jwt_issuer: str | None = Field(None, alias="SUPPORT_JWT_ISSUER", description="required `iss` claim")
    jwt_audience: str | None = Field(None, alias="SUPPORT_JWT_AUDIENCE", description="required `aud` claim")
    jwt_algorithms: Algorithms = Field(
        ("RS256", "ES256", "EdDSA"), alias="SUPPORT_JWT_ALGORITHMS", validate_default=False
    )
    jwt_leeway: int = Field(30, alias="SUPPORT_JWT_LEEWAY", ge=0, le=600, description="s of tolerated clock difference")
    jwt_role_claim: str = Field("role", alias="SUPPORT_JWT_ROLE_CLAIM")
    jwt_subject_claim: str = Field(
        "sub", alias="SUPPORT_JWT_SUBJECT_CLAIM", description="claim with the agent id or customer id"
    )
    jwt_teams_claim: str = Field("teams", alias="SUPPORT_JWT_TEAMS_CLAIM")
    metrics_token: Token | None = Field(
        None, alias="SUPPORT_METRICS_TOKEN", min_length=16, description="bearer token that /metrics requires"
    )
    admin_host: str = Field("127.0.0.1", alias="SUPPORT_ADMIN_HOST")
    admin_port: int | None = Field(
        None, alias="SUPPORT_ADMIN_PORT", ge=0, le=65535, description="separate port for metrics and health"
    )


class Client(SettingsSection):
    """Credentials of the commands that call a running service."""

    token: Token | None = Field(
        None, alias="SUPPORT_TOKEN", description="token with which `attach`, `probe` and `demo` authenticate"
    )

    @property
    def headers(self) -> dict[str, str]:
        """Return the Authorization header for the token; no header without a token."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token.get_secret_value()}"}


def read_section(section: type[AnySection], environ: Mapping[str, str]) -> AnySection:
    """Read a section from its variables; an empty value counts as unset.

    Raises WrongSetting for the first invalid value.
    """
    names = [str(field.alias) for field in section.model_fields.values()]
    given = {name: environ[name] for name in names if environ.get(name)}
    try:
        return section.model_validate(given)
    except ValidationError as failure:
        first = failure.errors()[0]
        name = str(first["loc"][0])
        raise WrongSetting(f"{name}={mask_secrets(name, given[name])}: expected {expected_values(first)}") from None
