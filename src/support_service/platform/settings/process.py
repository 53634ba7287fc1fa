"""Settings of the process: listening, limits, authentication, telemetry. An alias is the variable's name."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from support_service.core.domain.case_vocabulary import CHANNELS, SYNTHETIC
from support_service.platform.settings.section import SettingsSection
from support_service.platform.settings.value_types import (
    BaseUrl,
    Channels,
    Count,
    Duration,
    GroupMap,
    Issuer,
    KeySource,
    MetricsExporters,
    Networks,
    Origins,
    RequestRate,
    RoleMap,
    Scopes,
    Seconds,
    Token,
    TracesExporters,
)

ADDRESS_FACTOR = 16  # streams of one address for each stream that a principal may have


class ServerSettings(SettingsSection):
    """Port, public address, shutdown and logging."""

    host: str = Field(
        "127.0.0.1", alias="SUPPORT_HOST", description="Address to listen on. With `SUPPORT_AUTH=open`: loopback only."
    )
    port: int = Field(8000, alias="SUPPORT_PORT", ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    public_url: BaseUrl | None = Field(
        None, alias="SUPPORT_PUBLIC_URL", description="Prefix of attachment URLs. Unset: URLs are paths."
    )
    auth: Literal["open", "token", "jwt"] = Field(
        "open",
        alias="SUPPORT_AUTH",
        description="How callers are identified: everyone, a token of `support-service token`, or a JWT.",
    )
    masking_key: str | None = Field(
        None,
        alias="SUPPORT_MASKING_KEY",
        description="Key of customers' pseudonyms in exports and for analysts. Unset: random in each process.",
    )
    stop_delay: Seconds = Field(
        0,
        alias="SUPPORT_STOP_DELAY",
        ge=0,
        description='Time between reporting "not ready" and the start of the shutdown.',
    )
    access_log: float = Field(
        0.01,
        alias="SUPPORT_ACCESS_LOG",
        ge=0,
        le=1,
        description="Share of requests that are logged. Server errors are always logged.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        alias="SUPPORT_LOG_LEVEL",
        description="Lowest level of log lines; `warn` is `warning`. Logs are JSON on standard error.",
    )

    @property
    def url_prefix(self) -> str:
        """Return the prefix of attachment URLs; empty for paths."""
        return self.public_url or ""

    @field_validator("log_level", mode="before")
    @classmethod
    def _read_usual_abbreviation(cls, value: Any) -> Any:
        """Read `warn`, as many services name the level, as `warning`."""
        return "warning" if str(value).strip().lower() == "warn" else value


class CaseSettings(SettingsSection):
    """The channels of cases, and what customers choose."""

    channels: Channels = Field(
        (),
        alias="SUPPORT_CHANNELS",
        description="Channels that, besides the known ones, have a metric label of their own and stay visible to "
        "analysts and after an erasure. Every other channel is `other` there.",
    )
    synthetic_channels: Channels = Field(
        (SYNTHETIC,),
        alias="SUPPORT_SYNTHETIC_CHANNELS",
        description="Channels of synthetic cases, which are in no list, no count and no published event. It applies to "
        "cases that are opened from then on.",
    )
    customers_set_priority: bool = Field(
        default=False,
        alias="SUPPORT_CUSTOMERS_SET_PRIORITY",
        description="Whether customers open cases with a priority and tags of their choice, which service levels go "
        "by. Otherwise their cases have normal priority and no tags.",
    )

    @property
    def known_channels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*CHANNELS, *self.channels)))


class LimitSettings(SettingsSection):
    """Rate limits, load limits, client timeouts, trusted proxies and allowed CORS origins."""

    trusted_proxies: Networks = Field(
        (),
        alias="SUPPORT_TRUSTED_PROXIES",
        validate_default=False,
        description="Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted.",
    )
    cors_origins: Origins = Field(
        (),
        alias="SUPPORT_CORS_ORIGINS",
        validate_default=False,
        description="Origins whose pages may call the API, such as `https://desk.example`.",
    )
    rate: RequestRate | None = Field(
        None,
        alias="SUPPORT_RATE_LIMIT",
        description="Requests of one principal; a long answer costs one for each 256 KiB. Unset: `100/s`, or unlimited "
        "with `SUPPORT_AUTH=open`.",
    )
    address_rate: RequestRate | None = Field(
        None,
        alias="SUPPORT_RATE_LIMIT_ADDRESS",
        description="Requests of one client address. Unset: `300/s`, or unlimited with `SUPPORT_AUTH=open`.",
    )
    connections: Count = Field(
        4096,
        alias="SUPPORT_CONNECTIONS",
        ge=8,
        description="Concurrent client connections. At most half of them may be streams of changes.",
    )
    lag: Seconds = Field(
        0.5,
        alias="SUPPORT_SHED_LAG",
        ge=0,
        description="Event loop lag above which requests are refused; 0 disables this.",
    )
    streams_per_principal: Count = Field(
        16,
        alias="SUPPORT_STREAMS_PER_PRINCIPAL",
        ge=1,
        description="Open streams of one principal in one replica; unlimited with `SUPPORT_AUTH=open`. One client "
        "address may have 16 times as many.",
    )

    @property
    def streams_per_address(self) -> int:
        """The streams of one client address, of which a whole office may have one."""
        return ADDRESS_FACTOR * self.streams_per_principal

    @property
    def streams(self) -> int:
        """The streams of all callers: the other half of the connections is left to requests."""
        return self.connections // 2


class AccessSettings(SettingsSection):
    """Authentication of callers (tokens, JWTs), and access to metrics and the admin port."""

    tokens_file: Path = Field(
        Path("var/tokens.json"),
        alias="SUPPORT_TOKENS_FILE",
        description="File of the tokens that `support-service token` manages.",
    )
    jwt_keys: KeySource | None = Field(
        None,
        alias="SUPPORT_JWT_KEYS",
        description="Keys that verify JWTs. With `SUPPORT_AUTH=jwt` it is required, unless `SUPPORT_OIDC_ISSUER` is "
        "set: its keys count then, for JWTs of the same issuer.",
    )
    jwt_issuer: str | None = Field(
        None, alias="SUPPORT_JWT_ISSUER", description="Required `iss` claim. Required with `SUPPORT_JWT_KEYS`."
    )
    jwt_audience: str | None = Field(
        None,
        alias="SUPPORT_JWT_AUDIENCE",
        description="Required `aud` claim. Required with `SUPPORT_JWT_KEYS`, else `SUPPORT_OIDC_CLIENT_ID` if unset.",
    )
    jwt_role_claim: str = Field(
        "role",
        alias="SUPPORT_JWT_ROLE_CLAIM",
        description="Claim with the role; with `SUPPORT_JWT_ROLE_MAP`, with the groups.",
    )
    jwt_role_map: RoleMap = Field(
        (),
        alias="SUPPORT_JWT_ROLE_MAP",
        validate_default=False,
        description="Roles of groups, such as `support-leads:supervisor,support-agents:agent`. Of a caller's groups, "
        "the first one in this list counts. A comma in the name of a group is written `\\,`. Unset: the claim has the "
        "role.",
    )
    jwt_subject_claim: str = Field(
        "sub", alias="SUPPORT_JWT_SUBJECT_CLAIM", description="Claim with the agent id or customer id."
    )
    jwt_teams_claim: str = Field(
        "teams",
        alias="SUPPORT_JWT_TEAMS_CLAIM",
        description="Claim with the agent's teams; with `SUPPORT_JWT_TEAM_MAP`, with the groups.",
    )
    jwt_team_map: GroupMap = Field(
        (),
        alias="SUPPORT_JWT_TEAM_MAP",
        validate_default=False,
        description="Teams of groups, such as `support-returns:returns`, written like `SUPPORT_JWT_ROLE_MAP`. Unset: "
        "the claim has the teams.",
    )
    metrics_token: Token | None = Field(
        None,
        alias="SUPPORT_METRICS_TOKEN",
        min_length=16,
        description="Bearer token that `/metrics` requires. Unset: none.",
    )
    admin_host: str = Field("127.0.0.1", alias="SUPPORT_ADMIN_HOST", description="Address of the admin port.")
    admin_port: int | None = Field(
        None,
        alias="SUPPORT_ADMIN_PORT",
        ge=0,
        le=65535,
        description="Port that serves `/metrics` and health; the API's port then serves no `/metrics`. Unset: none.",
    )


class SignInSettings(SettingsSection):
    """Sign-in to the console by OpenID Connect."""

    issuer: Issuer | None = Field(
        None,
        alias="SUPPORT_OIDC_ISSUER",
        description="Issuer of the provider, exactly as its discovery document has it. Unset: users paste tokens.",
    )
    client_id: str | None = Field(
        None,
        alias="SUPPORT_OIDC_CLIENT_ID",
        description="Id of this service at the provider. If JWTs have the same audience, `azp` must be this id, too.",
    )
    client_secret_file: Path | None = Field(
        None,
        alias="SUPPORT_OIDC_CLIENT_SECRET_FILE",
        description="File with the secret of this service at the provider. Unset: the provider asks for none.",
    )
    scopes: Scopes = Field(
        "openid profile",
        alias="SUPPORT_OIDC_SCOPES",
        description="Scopes to ask for, separated by blanks. Many providers give refresh tokens for `offline_access`.",
    )
    outage_grace: Duration = Field(
        timedelta(hours=8),
        alias="SUPPORT_OIDC_OUTAGE_GRACE",
        description="How long sessions go on with the rights that they had, while the provider does not answer.",
    )


class ClientSettings(SettingsSection):
    """Credentials of the commands that call a running service."""

    token: Token | None = Field(
        None, alias="SUPPORT_TOKEN", description="Token with which `attach`, `probe` and `demo` authenticate."
    )

    @property
    def headers(self) -> dict[str, str]:
        """Return the Authorization header for the token; no header without a token."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token.get_secret_value()}"}


class TelemetrySettings(SettingsSection):
    """Telemetry: OTEL_* variables that the service reads. The SDK and its exporters read the others themselves."""

    disabled: Annotated[bool, BeforeValidator(lambda value: str(value).strip().lower() == "true")] = Field(
        default=False, alias="OTEL_SDK_DISABLED", description="`true` disables metrics and traces."
    )
    metrics_exporter: MetricsExporters = Field(
        ("prometheus",), alias="OTEL_METRICS_EXPORTER", validate_default=False, description="Where metrics go."
    )
    traces_exporter: TracesExporters = Field(
        (), alias="OTEL_TRACES_EXPORTER", validate_default=False, description="Where traces go."
    )

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the names of the metrics exporters; none if the SDK is disabled."""
        return () if self.disabled else self.metrics_exporter

    @property
    def traces(self) -> tuple[str, ...]:
        """Return the names of the trace exporters; none if the SDK is disabled."""
        return () if self.disabled else self.traces_exporter
