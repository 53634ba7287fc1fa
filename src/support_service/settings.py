"""The only reader of the environment: small frozen sections, checked once at the start.

Each field's alias is the variable that sets it, so that a search for `SUPPORT_PORT` ends here.
"""

import base64
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from redis.asyncio import BlockingConnectionPool

from support_service import otel, quantities

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Those that prove who signed. With HS256 and its like, whoever can check a token can make one; `none` proves nothing.
JWT_ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"),
    *("EdDSA", "Ed25519"),
)
RATE = (100, 1)  # requests, seconds: a busy tool needs a tenth
ADDRESS_RATE = (300, 1)  # an office behind one address
POSTGRES_OPTIONS = frozenset({"sslmode", "ssl", "user", "password", "host", "port", "database", "target_session_attrs"})


class WrongSetting(Exception):
    """One line that names the variable, its value and what is allowed."""


def _http_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("an address that starts with http:// or https://")
    _check_port(value)
    if not urlsplit(value).hostname or re.search(r"\s", value):
        raise ValueError("an address that names a host after http:// or https://, and has no spaces")
    return value.rstrip("/")


def _base_url(value: str) -> str:
    if "?" in value or "#" in value:
        raise ValueError("an address without a query and a fragment, since paths are appended to it")
    return _http_url(value)


def _redis_url(value: str) -> str:
    if not value.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("an address that starts with redis://, rediss:// or unix://")
    _check_port(value)
    try:
        BlockingConnectionPool.from_url(value).make_connection()  # type: ignore[no-untyped-call]  # none is opened
    except (TypeError, ValueError):
        raise ValueError(
            "an address whose query, if there is one, has options of redis-py's connections alone"
        ) from None
    return value


def _database_url(value: str) -> str:
    if not value.startswith(("sqlite:///", "postgresql://")):
        raise ValueError("sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE")
    if ":memory:" in value or value == "sqlite:///":
        raise ValueError("the path of a file, since a database in memory is gone with its connection")
    if value.startswith("postgresql:"):
        _check_port(value)
        unknown = {name for name, _ in parse_qsl(urlsplit(value).query, keep_blank_values=True)} - POSTGRES_OPTIONS
        if unknown:
            raise ValueError(f"an address whose query has none but these: {', '.join(sorted(POSTGRES_OPTIONS))}")
    return value


def _check_port(value: str) -> None:
    try:
        _ = urlsplit(value).port
    except ValueError:  # its text has what it took for the port, which may be half a password
        raise ValueError(
            "an address whose port is a number up to 65535; in a password / is written %2F, ? %3F, # %23 and @ %40"
        ) from None


def _key_place(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        _check_port(value)
    elif "://" in value:
        raise ValueError("an address that starts with https:// (http:// on loopback alone), or the path of a file")
    return value


def _shown(name: str, value: str) -> str:
    """A value as an error may show it: the log is no place for a password."""
    if name.endswith(("_HEADERS", "_TOKEN")) or name == "SUPPORT_MASKING_KEY":
        return "***"
    if name == "SUPPORT_WEBHOOKS":
        value = re.sub(r'whsec_[^"\s]*|("secret"\s*:\s*)"[^"]*"', r"\1***", value)
        return repr(re.sub(r'(:\\?/\\?/)[^"\s]*', r"\1***", value))  # many a webhook has its secret in the path
    if not name.endswith(("_URL", "_ENDPOINT", "_KEYS")):
        return repr(value)
    scheme, separator, rest = value.partition("://") if "://" in value else ("", "", value)
    head, question, query = rest.partition("?")
    if "@" in query:  # of the query, or of a password with a question mark: no way to tell
        return repr(f"{scheme}{separator}***")
    before, at, host = head.rpartition("@")
    return repr(f"{scheme}{separator}{'***@' if at else before}{host}{'?***' if question else ''}")


def _exporters(*allowed: str) -> BeforeValidator:
    """A list with commas between, as the OpenTelemetry specification has it; `none` stands alone."""

    def split(value: object) -> object:
        names = tuple(name.strip().lower() for name in str(value).split(","))
        if names == ("none",):
            return ()
        if not set(names) <= set(allowed):
            raise ValueError(f"none, or any of {', '.join(allowed)} with commas between")
        return names

    return BeforeValidator(split)


def _types(value: object) -> object:
    """A list of content types with commas between; `image/*` stands for all of its kind."""
    names = tuple(name.strip().lower() for name in str(value).split(","))
    if not all(re.fullmatch(r"[a-z0-9!#$&^_.+-]+/([a-z0-9!#$&^_.+-]+|\*)", name) for name in names):
        raise ValueError("content types with commas between, such as application/pdf,image/*")
    return names


def _algorithms(value: object) -> object:
    """A list of JWT algorithms with commas between."""
    names = tuple(name.strip() for name in str(value).split(","))
    if not set(names) <= set(JWT_ALGORITHMS):
        raise ValueError(f"any of {', '.join(JWT_ALGORITHMS)} with commas between")
    return names


def _frequency(value: object) -> object:
    """A rate as (requests, seconds); `off` is no request in no time."""
    return (0, 0) if str(value).strip().lower() == "off" else quantities.frequency(str(value))


def _networks(value: object) -> object:
    """A list of addresses and networks with commas between."""
    try:
        return tuple(ip_network(each.strip(), strict=False) for each in str(value).split(","))
    except ValueError:
        raise ValueError("addresses and networks with commas between, such as 10.0.0.0/8,fd00::1") from None


def _origins(value: object) -> object:
    """A list of origins with commas between, as browsers write them; there is no word for every origin."""
    names = tuple(each.strip() for each in str(value).split(","))
    if not all(re.fullmatch(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", name) for name in names):
        raise ValueError("origins with commas between, in small letters, such as https://desk.example")
    return names


Frequency = Annotated[tuple[int, int], BeforeValidator(_frequency)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_networks)]
Origins = Annotated[tuple[str, ...], BeforeValidator(_origins)]
ContentTypes = Annotated[tuple[str, ...], BeforeValidator(_types)]
Duration = Annotated[timedelta, BeforeValidator(quantities.duration)]
Share = Annotated[float, BeforeValidator(quantities.share)]
MetricsExporters = Annotated[tuple[str, ...], _exporters("prometheus", "otlp", "console")]
TracesExporters = Annotated[tuple[str, ...], _exporters("otlp", "console")]
Algorithms = Annotated[tuple[str, ...], BeforeValidator(_algorithms)]
KeyPlace = Annotated[str, AfterValidator(_key_place)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]


class Webhook(BaseModel):
    """An endpoint that gets events: its secret is of Standard Webhooks' form, `whsec_` and 24 to 64 bytes in base64."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    url: HttpUrl
    secret: str
    types: tuple[str, ...] = ()

    @field_validator("secret")
    @classmethod
    def _is_a_secret(cls, value: str) -> str:
        try:
            key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
        except ValueError:
            key = b""
        if not value.startswith("whsec_") or not 24 <= len(key) <= 64:  # noqa: PLR2004 - the specification's bounds
            raise ValueError("a secret of the form whsec_ and 24 to 64 bytes in base64")
        return value


WEBHOOKS_FORM = 'a JSON list of {"name", "url", "secret", "types"?}, each name once'


def _webhooks(value: object) -> object:
    """The list in a variable's JSON; what is wrong in it is told without its values, since some are secrets."""
    if not isinstance(value, str):
        return value
    try:
        found = TypeAdapter(tuple[Webhook, ...]).validate_json(value)
    except ValidationError as failure:
        first = failure.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{WEBHOOKS_FORM}{f'; {place}: {reason}' if place else ''}") from None
    if len({each.name for each in found}) != len(found):
        raise ValueError(WEBHOOKS_FORM)
    return found


Webhooks = Annotated[tuple[Webhook, ...], BeforeValidator(_webhooks)]


class Section(BaseModel):
    """A part of the settings, read from the variables that its fields name."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, hide_input_in_errors=True)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """This section alone, for a command that needs nothing else; raises WrongSetting."""
        return _read(cls, environ)


class Server(Section):
    """Where the service listens and who may call it."""

    host: str = Field("127.0.0.1", alias="SUPPORT_HOST", description="address to listen on")
    port: int = Field(8000, alias="SUPPORT_PORT", ge=0, le=65535, description="port to listen on; 0 takes a free one")
    public_url: BaseUrl | None = Field(None, alias="SUPPORT_PUBLIC_URL", description="prefix of attachment addresses")
    auth: Literal["open", "token", "jwt"] = Field(
        "open", alias="SUPPORT_AUTH", description="`open` serves loopback alone"
    )
    masking_key: str | None = Field(
        None, alias="SUPPORT_MASKING_KEY", description="keeps analysts' pseudonyms the same over replicas and restarts"
    )
    stop_timeout: float = Field(10, alias="SUPPORT_STOP_TIMEOUT", gt=0, description="s for requests in flight to end")
    stop_delay: float = Field(0, alias="SUPPORT_STOP_DELAY", ge=0, description="s of not ready before the stop begins")
    access_log: float = Field(0.01, alias="SUPPORT_ACCESS_LOG", ge=0, le=1, description="share of requests logged")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="SUPPORT_LOG_LEVEL")


class Limits(Section):
    """How much the service takes on, from whom, and how long anyone may keep it waiting."""

    trusted_proxies: Networks = Field(
        (), alias="SUPPORT_TRUSTED_PROXIES", validate_default=False, description="whose X-Forwarded-* are believed"
    )
    cors_origins: Origins = Field(
        (), alias="SUPPORT_CORS_ORIGINS", validate_default=False, description="origins whose pages may call"
    )
    rate: Frequency | None = Field(None, alias="SUPPORT_RATE_LIMIT", description="of one principal")
    address_rate: Frequency | None = Field(None, alias="SUPPORT_RATE_LIMIT_ADDRESS", description="of one address")
    connections: int = Field(4096, alias="SUPPORT_CONNECTIONS", ge=8, description="connections at once")
    requests: int = Field(1000, alias="SUPPORT_REQUESTS", ge=1, description="requests in work at once")
    lag: float = Field(0.5, alias="SUPPORT_SHED_LAG", ge=0, description="s of loop lag from which on load is shed")
    header_timeout: float = Field(10, alias="SUPPORT_HEADER_TIMEOUT", gt=0, description="s for a request's head")
    idle_timeout: float = Field(75, alias="SUPPORT_IDLE_TIMEOUT", gt=0, description="s between requests")
    send_timeout: float = Field(30, alias="SUPPORT_SEND_TIMEOUT", gt=0, description="s without taking of an answer")


class Database(Section):
    """Where cases are kept."""

    url: DatabaseUrl = Field("sqlite:///var/support.db", alias="SUPPORT_DATABASE_URL")
    synchronous: Literal["NORMAL", "FULL"] = Field(
        "NORMAL", alias="SUPPORT_SQLITE_SYNCHRONOUS", description="FULL survives a power cut, NORMAL a killed process"
    )
    pool_size: int = Field(10, alias="SUPPORT_DATABASE_POOL", ge=1, le=200, description="PostgreSQL connections")


class Timeline(Section):
    """The services behind the timeline and its cache."""

    redis_url: RedisUrl | None = Field(None, alias="SUPPORT_REDIS_URL", description="unset: in-process cache")
    redis_timeout: float = Field(0.045, alias="SUPPORT_REDIS_TIMEOUT", gt=0, description="s for Redis to answer")
    order_url: BaseUrl | None = Field(None, alias="SUPPORT_ORDER_URL", description="unset: that source is off")
    payment_url: BaseUrl | None = Field(None, alias="SUPPORT_PAYMENT_URL", description="unset: that source is off")
    fulfillment_url: BaseUrl | None = Field(
        None, alias="SUPPORT_FULFILLMENT_URL", description="unset: that source is off"
    )
    cache_ttl: float = Field(300, alias="SUPPORT_TIMELINE_CACHE_TTL", gt=0, description="s an answer counts as current")
    stale_ttl: float = Field(
        3600, alias="SUPPORT_TIMELINE_STALE_TTL", ge=0, description="s more for which it stands in for a failure"
    )
    source_timeout: float = Field(1.5, alias="SUPPORT_TIMELINE_SOURCE_TIMEOUT", gt=0, description="s for one call")
    deadline: float = Field(2.0, alias="SUPPORT_TIMELINE_DEADLINE", gt=0, description="s for all calls of one read")
    connections: int = Field(32, alias="SUPPORT_TIMELINE_CONNECTIONS", ge=1, description="calls at once to one source")


class Attachments(Section):
    """Where files are kept, how they arrive, and when they leave."""

    directory: Path = Field(Path("var/attachments"), alias="SUPPORT_ATTACHMENT_DIR")
    store: Literal["local", "s3"] = Field("local", alias="SUPPORT_ATTACHMENT_STORE", description="where new files go")
    max_bytes: int = Field(26_214_400, alias="SUPPORT_ATTACHMENT_MAX_BYTES", gt=0, description="bytes in one file")
    disk_reserve: int = Field(
        268_435_456, alias="SUPPORT_ATTACHMENT_DISK_RESERVE", ge=0, description="bytes of the disk that stay free"
    )
    uploads: int = Field(64, alias="SUPPORT_ATTACHMENT_UPLOADS", ge=1, description="uploads at once")
    min_rate: float = Field(1024, alias="SUPPORT_ATTACHMENT_MIN_RATE", ge=0, description="bytes/s a client must send")
    deadline: float = Field(3600, alias="SUPPORT_ATTACHMENT_DEADLINE", gt=0, description="s for a whole upload")
    types: ContentTypes | None = Field(None, alias="SUPPORT_ATTACHMENT_TYPES", description="unset: any content type")
    download: Literal["stream", "redirect"] = Field(
        "stream", alias="SUPPORT_ATTACHMENT_DOWNLOAD", description="how files leave that lie on S3"
    )
    retention: Duration | None = Field(
        None, alias="SUPPORT_RETENTION_AFTER", description="age at which files of closed cases are deleted"
    )
    scrub: Share = Field(0.0, alias="SUPPORT_SCRUB_SAMPLE", description="share of the files re-hashed each hour")


class ObjectStore(Section):
    """The S3-compatible server; its credentials come from the usual AWS_* variables."""

    bucket: str | None = Field(None, alias="SUPPORT_S3_BUCKET", description="unset: files stay on the local disk")
    endpoint: BaseUrl | None = Field(None, alias="SUPPORT_S3_ENDPOINT", description="unset: Amazon's own")
    region: str = Field("us-east-1", alias="SUPPORT_S3_REGION")
    offload_after: Duration | None = Field(
        None, alias="SUPPORT_OFFLOAD_AFTER", description="age at which files move to S3 by themselves"
    )
    grace: Duration = Field(
        timedelta(seconds=10), alias="SUPPORT_OFFLOAD_GRACE", description="time until the local copy goes after a move"
    )


class Events(Section):
    """What other services tell this one, and what this one tells them."""

    redis_url: RedisUrl | None = Field(None, alias="SUPPORT_EVENTS_REDIS_URL", description="unset: SUPPORT_REDIS_URL")
    stream: str = Field("support.events", alias="SUPPORT_EVENTS_STREAM", min_length=1)
    inbound_stream: str = Field("support.inbound", alias="SUPPORT_EVENTS_INBOUND_STREAM", min_length=1)
    keep: int = Field(100_000, alias="SUPPORT_EVENTS_KEEP", ge=1, description="events that the stream holds, about")
    consume: bool = Field(default=True, alias="SUPPORT_EVENTS_CONSUME", description="false: another process does")
    claim_after: float = Field(
        10,
        alias="SUPPORT_EVENTS_CLAIM_AFTER",
        gt=0,
        description="s until an event that was not acknowledged comes again",
    )
    webhooks: Webhooks = Field((), alias="SUPPORT_WEBHOOKS", validate_default=False)


class Telemetry(Section):
    """OpenTelemetry's own variables; what is not here, its SDK and its exporters read themselves."""

    disabled: Annotated[bool, BeforeValidator(lambda value: str(value).strip().lower() == "true")] = Field(
        default=False, alias="OTEL_SDK_DISABLED", description="true switches metrics and traces off"
    )
    metrics_exporter: MetricsExporters = Field(("prometheus",), alias="OTEL_METRICS_EXPORTER", validate_default=False)
    traces_exporter: TracesExporters = Field((), alias="OTEL_TRACES_EXPORTER", validate_default=False)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Where metrics go."""
        return () if self.disabled else self.metrics_exporter

    @property
    def traces(self) -> tuple[str, ...]:
        """Where spans go."""
        return () if self.disabled else self.traces_exporter


class Access(Section):
    """What callers are known by, and where those who run the service look after it."""

    tokens_file: Path = Field(Path("var/tokens.json"), alias="SUPPORT_TOKENS_FILE")
    jwt_keys: KeyPlace | None = Field(None, alias="SUPPORT_JWT_KEYS", description="address of a JWKS, or a file")
    jwt_issuer: str | None = Field(None, alias="SUPPORT_JWT_ISSUER", description="the `iss` that tokens must have")
    jwt_audience: str | None = Field(None, alias="SUPPORT_JWT_AUDIENCE", description="the `aud` that tokens must name")
    jwt_algorithms: Algorithms = Field(
        ("RS256", "ES256", "EdDSA"), alias="SUPPORT_JWT_ALGORITHMS", validate_default=False
    )
    jwt_leeway: int = Field(30, alias="SUPPORT_JWT_LEEWAY", ge=0, le=600, description="s that clocks may differ")
    jwt_role_claim: str = Field("role", alias="SUPPORT_JWT_ROLE_CLAIM")
    jwt_subject_claim: str = Field("sub", alias="SUPPORT_JWT_SUBJECT_CLAIM", description="a claim with the case's id")
    jwt_teams_claim: str = Field("teams", alias="SUPPORT_JWT_TEAMS_CLAIM")
    metrics_token: SecretStr | None = Field(
        None, alias="SUPPORT_METRICS_TOKEN", min_length=16, description="what /metrics asks for"
    )
    admin_host: str = Field("127.0.0.1", alias="SUPPORT_ADMIN_HOST")
    admin_port: int | None = Field(
        None, alias="SUPPORT_ADMIN_PORT", ge=0, le=65535, description="metrics and health on a port of their own"
    )


class Client(Section):
    """What the commands that call a service say to it."""

    token: SecretStr | None = Field(None, alias="SUPPORT_TOKEN", description="whom `attach`, `probe` and `demo` act as")

    @property
    def headers(self) -> dict[str, str]:
        """The headers that say who calls."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token.get_secret_value().strip()}"}


AnySection = TypeVar("AnySection", bound=Section)


class Settings(BaseModel):
    """Every section, read together."""

    model_config = ConfigDict(frozen=True)

    server: Server
    limits: Limits
    database: Database
    timeline: Timeline
    attachments: Attachments
    s3: ObjectStore
    events: Events
    telemetry: Telemetry
    access: Access
    warnings: tuple[str, ...] = ()  # what was set and has no effect

    @property
    def rate(self) -> tuple[int, int]:
        """(requests, seconds) of one principal; (0, 0) is no limit, as there is none on loopback unless it is set."""
        return self.limits.rate or ((0, 0) if self.server.auth == "open" else RATE)

    @property
    def address_rate(self) -> tuple[int, int]:
        """The same of one address."""
        return self.limits.address_rate or ((0, 0) if self.server.auth == "open" else ADDRESS_RATE)

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Read and check every variable; raises WrongSetting for the first that is wrong."""
        settings = cls(
            server=_read(Server, environ),
            limits=_read(Limits, environ),
            database=_read(Database, environ),
            timeline=_read(Timeline, environ),
            attachments=_read(Attachments, environ),
            s3=_read(ObjectStore, environ),
            events=_read(Events, environ),
            telemetry=_read(Telemetry, environ),
            access=_read(Access, environ),
            warnings=(*otel.ignored(environ), *_deaf(environ), *_unused(environ)),
        )
        for name, allowed in otel.wrong(environ, settings.telemetry.metrics, settings.telemetry.traces):
            raise WrongSetting(f"{name}={_shown(name, environ[name])}: allowed is {allowed}")
        if settings.server.auth == "open" and settings.server.host not in LOOPBACK:
            raise WrongSetting(
                f"SUPPORT_HOST={settings.server.host!r}: with SUPPORT_AUTH=open only a loopback address is allowed "
                f"({', '.join(LOOPBACK)}), since anyone who reaches the port may read every case"
            )
        if settings.server.auth == "jwt":
            for name in ("SUPPORT_JWT_KEYS", "SUPPORT_JWT_ISSUER", "SUPPORT_JWT_AUDIENCE"):
                if not environ.get(name):
                    raise WrongSetting(f"SUPPORT_AUTH='jwt': needs {name}")
        if settings.s3.bucket is None:
            if settings.attachments.store == "s3":
                raise WrongSetting("SUPPORT_ATTACHMENT_STORE='s3': needs SUPPORT_S3_BUCKET")
            if settings.s3.offload_after is not None:
                raise WrongSetting(
                    f"SUPPORT_OFFLOAD_AFTER={environ['SUPPORT_OFFLOAD_AFTER']!r}: needs SUPPORT_S3_BUCKET"
                )
        return settings


def _deaf(environ: Mapping[str, str]) -> Iterator[str]:
    redis = environ.get("SUPPORT_EVENTS_REDIS_URL") or environ.get("SUPPORT_REDIS_URL")
    if not redis and not _read(Events, environ).consume:
        given = environ["SUPPORT_EVENTS_CONSUME"]
        yield (
            f"SUPPORT_EVENTS_CONSUME={given!r} leaves events to no one: without SUPPORT_EVENTS_REDIS_URL or "
            "SUPPORT_REDIS_URL no other process can reach them"
        )


def _unused(environ: Mapping[str, str]) -> Iterator[str]:
    auth = environ.get("SUPPORT_AUTH") or "open"
    if auth != "jwt" and environ.get("SUPPORT_JWT_KEYS"):
        yield f"SUPPORT_JWT_KEYS lets nobody in: SUPPORT_AUTH is {auth!r}, not 'jwt'"


def _read(section: type[AnySection], environ: Mapping[str, str]) -> AnySection:
    names = [str(field.alias) for field in section.model_fields.values()]
    given = {name: environ[name] for name in names if environ.get(name)}
    try:
        return section.model_validate(given)
    except ValidationError as failure:
        first = failure.errors()[0]
        name = str(first["loc"][0])
        reason = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        raise WrongSetting(f"{name}={_shown(name, given[name])}: allowed is {reason}") from None
