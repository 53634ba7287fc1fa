"""Settings, read from the environment and validated once at startup; no other module reads the environment.

Each variable, such as `SUPPORT_PORT`, is defined in process.py or resources.py.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from support_service.core.domain.upstream_services import UpstreamService
from support_service.core.errors import UserError
from support_service.platform.settings import opentelemetry
from support_service.platform.settings.earlier_service import earlier_variables_warning
from support_service.platform.settings.process import (
    AccessSettings,
    CaseSettings,
    ClientSettings,
    LimitSettings,
    ServerSettings,
    SignInSettings,
    TelemetrySettings,
)
from support_service.platform.settings.resources import (
    AttachmentSettings,
    DatabaseSettings,
    EventSettings,
    LinkSettings,
    ObjectStoreSettings,
    TimelineSettings,
    UpstreamSettings,
)
from support_service.platform.settings.section import (
    FILE_SUFFIX,
    SettingsSection,
    read_section,
    read_value_file,
    variables_of,
    with_values_of_files,
)
from support_service.platform.settings.value_types import LOOPBACK, mask_secrets

__all__ = ["LOOPBACK", "AccessSettings", "ClientSettings", "ServerSettings", "Settings", "SettingsSection"]

DEFAULT_RATE = (100, 1)  # (requests, seconds): a busy tool needs a tenth of this
DEFAULT_ADDRESS_RATE = (300, 1)  # (requests, seconds): a whole office may share one address
# Variables that Kubernetes injects into each container for every Service in its namespace named support or support-…
KUBERNETES_VARIABLES = re.compile(r"SUPPORT_SERVICE_.*|SUPPORT_.*_(SERVICE_(HOST|PORT)|PORT_\d+_(TCP|UDP|SCTP)).*")
# Settings of release 0.2.0 that were removed, with their replacement. A service warns if one is set.
REMOVED = {
    "SUPPORT_ATTACHMENT_DEADLINE": "an upload takes at most an hour",
    "SUPPORT_ATTACHMENT_DISK_RESERVE": "256 MiB of the disk stay free",
    "SUPPORT_ATTACHMENT_MIN_RATE": "an upload sends at least 1 KiB/s",
    "SUPPORT_ATTACHMENT_UPLOADS": "64 uploads run at once",
    "SUPPORT_CASE_CACHE_BYTES": "a replica keeps 64 MiB of cases",
    **dict.fromkeys(
        ("SUPPORT_DATABASE_NAME", "SUPPORT_DATABASE_OPTIONS", "SUPPORT_DATABASE_USER"),
        "SUPPORT_DATABASE_URL has all parts",
    ),
    "SUPPORT_DATABASE_CONNECTION_MAX_AGE": "a connection to PostgreSQL is replaced after 30 minutes",
    "SUPPORT_DATABASE_READ_URL": "the primary answers lists and searches, and no standby does",
    "SUPPORT_EVENTS_CLAIM_AFTER": "an unacknowledged event is delivered again after 10 s",
    "SUPPORT_EVENTS_CONSUME": "each replica consumes inbound events",
    "SUPPORT_EVENTS_KEEP_INBOUND": "Redis keeps a tenth of SUPPORT_EVENTS_KEEP, at least 10,000",
    "SUPPORT_EVENTS_KEEP_PUBLISHED": "published events stay in the database for an hour",
    "SUPPORT_HEADER_TIMEOUT": "the headers of a request arrive within 10 s",
    "SUPPORT_IDLE_TIMEOUT": "a connection may be idle for 75 s between requests",
    "SUPPORT_JWT_ALGORITHMS": "JWTs may have any asymmetric algorithm for which the issuer has a key",
    "SUPPORT_JWT_LEEWAY": "clocks may differ by 30 s",
    "SUPPORT_METRICS_TARGET_INFO": "/metrics always has the series target_info",
    "SUPPORT_NOTIFICATIONS_KEEP": "a notification stays for 30 days",
    "SUPPORT_OFFLOAD_GRACE": "the local copy is deleted 10 s after a move",
    "SUPPORT_REDIS_TIMEOUT": "Redis has 45 ms to answer",
    "SUPPORT_REQUESTS": "1,000 requests run at once",
    "SUPPORT_SEND_RATE": "a client reads at least 1 KiB/s of its answers",
    "SUPPORT_SEND_TIMEOUT": "a client may leave its answer unread for 30 s",
    "SUPPORT_SQLITE_SYNCHRONOUS": "the last commits on SQLite survive a killed process, but no power cut",
    "SUPPORT_STOP_TIMEOUT": "requests have 10 s to finish at shutdown",
    "SUPPORT_STREAMS": "streams take at most half of SUPPORT_CONNECTIONS",
    "SUPPORT_STREAMS_PER_ADDRESS": "an address has 16 times SUPPORT_STREAMS_PER_PRINCIPAL",
    "SUPPORT_TIMELINE_CONNECTIONS": "a source gets 32 calls at once",
    "SUPPORT_TIMELINE_DEADLINE": "all calls of one read take 1.2 times SUPPORT_TIMELINE_SOURCE_TIMEOUT",
    "SUPPORT_TIMELINE_STALE_TTL": "a stale answer replaces a failed call for an hour",
    "SUPPORT_UNREAD_BYTES": "all clients may leave 256 MiB unread",
    "SUPPORT_UNREAD_BYTES_PER_CALLER": "a caller may leave 64 MiB unread",
}
WILDCARD_ADDRESSES = {
    str(IPv4Address(0)),
    str(IPv6Address(0)),
}  # wildcard addresses: binding to one takes the port on every address


class Settings(BaseModel):
    """All sections, read and validated together."""

    model_config = ConfigDict(frozen=True)

    server: ServerSettings
    limits: LimitSettings
    cases: CaseSettings
    database: DatabaseSettings
    upstream_urls: dict[UpstreamService, str]  # of the services that are configured
    timeline: TimelineSettings
    attachments: AttachmentSettings
    s3: ObjectStoreSettings
    events: EventSettings
    telemetry: TelemetrySettings
    access: AccessSettings
    sign_in: SignInSettings
    links: LinkSettings
    warnings: tuple[str, ...] = ()  # variables that are set and have no effect, or are probably a mistake

    @property
    def rate(self) -> tuple[int, int]:
        """Return the rate limit of one principal as (requests, seconds); (0, 0) means unlimited.

        With SUPPORT_AUTH=open, which listens on loopback only, the default is unlimited.
        """
        return self.limits.rate or ((0, 0) if self.server.auth == "open" else DEFAULT_RATE)

    @property
    def address_rate(self) -> tuple[int, int]:
        """Return the rate limit of one client address as (requests, seconds); (0, 0) means unlimited.

        With SUPPORT_AUTH=open the default is unlimited.
        """
        return self.limits.address_rate or ((0, 0) if self.server.auth == "open" else DEFAULT_ADDRESS_RATE)

    @property
    def events_redis_url(self) -> str | None:
        """Return the URL of the Redis that events go through; None keeps them in the process."""
        return self.events.redis_url or self.timeline.redis_url

    @property
    def redis_urls(self) -> dict[str, str]:
        """Return the URLs of the configured Redis servers by variable."""
        given = {"SUPPORT_REDIS_URL": self.timeline.redis_url, "SUPPORT_EVENTS_REDIS_URL": self.events.redis_url}
        return {variable: url for variable, url in given.items() if url}

    @property
    def called_servers(self) -> dict[str, str]:
        """Return the URLs of the servers whose certificates are watched, by the name of the target in the metric.

        The targets are the upstream services, `keys` of the issuer of JWTs, `provider` of the sign-in, `s3`,
        and `webhook:NAME`.
        """
        urls = {str(service): url for service, url in self.upstream_urls.items()}
        if self.server.auth == "jwt" and self.access.jwt_keys:
            urls["keys"] = self.access.jwt_keys
        if self.sign_in.issuer:
            urls["provider"] = self.sign_in.issuer
        if self.s3.bucket is not None:
            urls["s3"] = self.s3.endpoint or f"https://s3.{self.s3.region}.amazonaws.com"
        return urls | {f"webhook:{each.name}": each.url for each in self.events.webhooks}

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Read and validate every variable; raises UserError for the first invalid one."""
        if environ.get("SUPPORT_DATABASE_HOST"):  # without it, cases would be stored in a new SQLite database
            raise UserError(
                "SUPPORT_DATABASE_HOST was removed: set SUPPORT_DATABASE_URL, such as "
                "postgresql://USER@HOST:PORT/NAME?sslmode=verify-full, and SUPPORT_DATABASE_PASSWORD"
            )
        environ = with_values_of_files(environ, _known_variables())
        sections: dict[str, Any] = {
            name: read_section(field.annotation, environ)
            for name, field in cls.model_fields.items()
            if isinstance(field.annotation, type) and issubclass(field.annotation, SettingsSection)
        }
        urls = read_section(UpstreamSettings, environ).model_dump(exclude_none=True)
        settings = cls(**sections, upstream_urls=urls)
        metrics, traces = settings.telemetry.metrics, settings.telemetry.traces
        warnings = (
            *opentelemetry.ineffective_warnings(environ, metrics, traces),
            *_ineffective_warnings(environ, settings),
            *_unknown_variable_warnings(environ),
            *earlier_variables_warning(environ),
            *_short_retention_warning(environ, settings),
        )
        for name, expected in opentelemetry.first_invalid_variable(environ, metrics, traces):
            raise UserError(f"{name}={mask_secrets(name, environ[name])}: expected {expected}")
        if settings.events.stream == settings.events.inbound_stream:
            raise UserError(
                f"SUPPORT_EVENTS_STREAM and SUPPORT_EVENTS_INBOUND_STREAM are both {settings.events.stream!r}: "
                "expected two different streams, so that the service does not consume its own events"
            )
        _check_access(environ, settings)
        if settings.s3.bucket is None:
            if settings.attachments.store == "s3":
                raise UserError("SUPPORT_ATTACHMENT_STORE='s3' requires SUPPORT_S3_BUCKET")
            if settings.s3.offload_after is not None:
                raise UserError(
                    f"SUPPORT_OFFLOAD_AFTER={environ['SUPPORT_OFFLOAD_AFTER']!r} requires SUPPORT_S3_BUCKET"
                )
        return settings.model_copy(update={"warnings": warnings})

    @classmethod
    def load_to_serve(cls, environ: Mapping[str, str]) -> Self:
        """Load the settings of a process that listens on a port.

        Raises UserError, also for an open service on an address other than loopback, and for an admin port that is
        the API's port.
        """
        settings = cls.load(environ)
        server, access = settings.server, settings.access
        if server.auth == "open" and server.host not in LOOPBACK:
            raise UserError(
                f"SUPPORT_HOST={server.host!r}: expected a loopback address with SUPPORT_AUTH=open "
                f"({', '.join(LOOPBACK)}), because every client that reaches the port can read every case"
            )
        hosts = {server.host, access.admin_host}
        if access.admin_port and access.admin_port == server.port and (len(hosts) == 1 or hosts & WILDCARD_ADDRESSES):
            raise UserError(
                f"SUPPORT_ADMIN_PORT={access.admin_port}: expected a port other than the API's, SUPPORT_PORT"
            )
        return settings


def _check_access(environ: Mapping[str, str], settings: "Settings") -> None:
    """Raise UserError if a variable is missing that the kind of authentication needs."""
    if settings.sign_in.issuer:
        if settings.server.auth == "open":
            raise UserError("SUPPORT_OIDC_ISSUER requires SUPPORT_AUTH='jwt' or 'token'")
        if not settings.sign_in.client_id:
            raise UserError("SUPPORT_OIDC_ISSUER requires SUPPORT_OIDC_CLIENT_ID")
        if settings.sign_in.client_secret_file:
            read_value_file("SUPPORT_OIDC_CLIENT_SECRET_FILE", str(settings.sign_in.client_secret_file))
    if settings.server.auth == "jwt" and not (settings.sign_in.issuer and not settings.access.jwt_keys):
        for name in ("SUPPORT_JWT_KEYS", "SUPPORT_JWT_ISSUER", "SUPPORT_JWT_AUDIENCE"):
            if not environ.get(name):
                raise UserError(f"SUPPORT_AUTH='jwt' requires {name}")


def _ineffective_warnings(environ: Mapping[str, str], settings: Settings) -> Iterator[str]:
    auth = settings.server.auth
    if auth != "jwt" and environ.get("SUPPORT_JWT_KEYS"):
        yield f"SUPPORT_JWT_KEYS has no effect: SUPPORT_AUTH is {auth!r}, not 'jwt'"
    checks_client = auth == "jwt" and settings.sign_in.client_id == settings.access.jwt_audience
    for name, has_effect in (("SUPPORT_OIDC_CLIENT_ID", checks_client), ("SUPPORT_OIDC_CLIENT_SECRET_FILE", False)):
        if environ.get(name) and not settings.sign_in.issuer and not has_effect:
            yield f"{name} has no effect: SUPPORT_OIDC_ISSUER is not set"
    if settings.attachments.download == "redirect" and not settings.s3.bucket:
        yield "SUPPORT_ATTACHMENT_DOWNLOAD='redirect' has no effect: SUPPORT_S3_BUCKET is not set"


def _short_retention_warning(environ: Mapping[str, str], settings: Settings) -> Iterator[str]:
    retention = settings.attachments.retention
    if retention is not None and retention < timedelta(days=1):
        given = environ["SUPPORT_RETENTION_AFTER"]
        when = "less than a day after their case was closed"
        yield f"SUPPORT_RETENTION_AFTER={given!r} deletes files {when}: check the unit"


def _unknown_variable_warnings(environ: Mapping[str, str]) -> Iterator[str]:
    known = _known_variables()
    suffixes = [name.removeprefix("SUPPORT_") for name in known]
    for name in sorted(environ.keys() - {*known, *(f"{each}{FILE_SUFFIX}" for each in known)}):
        # Kubernetes sets a Service's port variable to a URL, such as SUPPORT_PROBE_PORT=tcp://10.0.0.7:9101.
        injected = KUBERNETES_VARIABLES.fullmatch(name) or (name.endswith("_PORT") and "://" in environ[name])
        if name.upper().startswith("SUPPORT_") and environ[name] and not injected:
            if instead := REMOVED.get(name.upper().removesuffix(FILE_SUFFIX)):
                yield f"{name} has no effect, because it was removed: {instead}"
                continue
            matches = difflib.get_close_matches(name.upper().removeprefix("SUPPORT_"), suffixes, 1)
            nearest = f"; did you mean SUPPORT_{matches[0]}?" if matches else ""
            yield f"{name} has no effect: unknown setting{nearest}"


def _known_variables() -> list[str]:
    return [name for section in SettingsSection.__subclasses__() for name in variables_of(section)]
