"""Settings of what the service uses: database, upstream services, files, events. An alias is the variable's name."""

from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, create_model, model_validator

from support_service.core.database_url import options_of, with_options
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES, url_variable
from support_service.platform.settings.section import FILE_SUFFIX, SettingsSection
from support_service.platform.settings.value_types import (
    BaseUrl,
    ContentTypes,
    Count,
    DatabaseUrl,
    Duration,
    RedisUrl,
    Seconds,
    Share,
    Webhooks,
)


class DatabaseSettings(SettingsSection):
    """The database that stores cases.

    Its URL has the password, or names the file with it.
    """

    url: DatabaseUrl = Field(
        "sqlite:///var/support.db", alias="SUPPORT_DATABASE_URL", description="The database that stores cases."
    )
    password: SecretStr | None = Field(
        None,
        alias="SUPPORT_DATABASE_PASSWORD",
        description="Password for PostgreSQL, if the URL has none. Its file is read for each new connection.",
    )
    pool_size: int = Field(
        10,
        alias="SUPPORT_DATABASE_POOL",
        ge=1,
        le=200,
        description="Connections to PostgreSQL, per replica. Transactions that lock rows leave a quarter of "
        "them free; one more is for `/readyz`.",
    )
    prepared_statements: bool = Field(
        default=True,
        alias="SUPPORT_DATABASE_PREPARED_STATEMENTS",
        description="`false` for a pooler that keeps none, such as PgBouncer by default. Statements have no names, and "
        "a read takes four round trips instead of one.",
    )

    @model_validator(mode="before")
    @classmethod
    def _add_password(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Add the password to the URL, or the option that names its file. Raises ValueError if the URL has one."""
        password, path = (str(given.get(f"SUPPORT_DATABASE_PASSWORD{end}", "")) for end in ("", FILE_SUFFIX))
        if not (password or path):
            return given
        variable = f"SUPPORT_DATABASE_PASSWORD{FILE_SUFFIX if path else ''}"
        url = given.get("SUPPORT_DATABASE_URL", "")
        if not url.startswith("postgresql"):
            raise ValueError(f"{variable} requires a SUPPORT_DATABASE_URL of PostgreSQL")
        options = options_of(url)
        if urlsplit(url).password or options.keys() & {"password", "password_file"}:
            raise ValueError(f"{variable} is set besides another password: expected one of them")
        added = {"password_file": path} if path else {"password": password}
        return {**given, "SUPPORT_DATABASE_URL": with_options(url, options | added)}


_UPSTREAM_URLS: dict[str, Any] = {
    service: (
        BaseUrl | None,
        Field(None, alias=url_variable(service), description="URL of the service. Unset: the source is off."),
    )
    for service in UPSTREAM_SERVICES
}


UpstreamSettings = create_model(
    "UpstreamSettings", __base__=SettingsSection, __doc__="Base URLs of the upstream services.", **_UPSTREAM_URLS
)


class TimelineSettings(SettingsSection):
    """The timeline: timeouts of the upstream services, and the cache."""

    redis_url: RedisUrl | None = Field(
        None,
        alias="SUPPORT_REDIS_URL",
        description="Redis for the timeline cache, rate limits and, by default, events. Unset: in-process.",
    )
    cache_ttl: Seconds = Field(
        300, alias="SUPPORT_TIMELINE_CACHE_TTL", gt=0, description="Time that an answer of a source is fresh."
    )
    source_timeout: Seconds = Field(
        2.5, alias="SUPPORT_TIMELINE_SOURCE_TIMEOUT", gt=0, description="Time for one call to a source."
    )

    @property
    def deadline(self) -> float:
        """The time for all calls of one read, in seconds: some wait until others have ended."""
        return 1.2 * self.source_timeout


class AttachmentSettings(SettingsSection):
    """Attachments: storage, upload limits, downloads, retention and re-hashing."""

    directory: Path = Field(
        Path("var/attachments"), alias="SUPPORT_ATTACHMENT_DIR", description="Directory of the local storage."
    )
    store: Literal["local", "s3"] = Field(
        "local", alias="SUPPORT_ATTACHMENT_STORE", description="Where new files are stored."
    )
    max_bytes: Count = Field(
        26_214_400, alias="SUPPORT_ATTACHMENT_MAX_BYTES", gt=0, description="Maximum size of a file in bytes."
    )
    types: ContentTypes | None = Field(
        None,
        alias="SUPPORT_ATTACHMENT_TYPES",
        description="Accepted types, such as `application/pdf,image/*`: as declared and by first bytes. Unset: any.",
    )
    download: Literal["stream", "redirect"] = Field(
        "stream",
        alias="SUPPORT_ATTACHMENT_DOWNLOAD",
        description="How files on S3 are downloaded: through the service, or by a redirect to a presigned URL.",
    )
    retention: Duration | None = Field(
        None,
        alias="SUPPORT_RETENTION_AFTER",
        description="Age at which files of closed cases are deleted. Unset: never.",
    )
    scrub: Share = Field(
        0.0, alias="SUPPORT_SCRUB_SAMPLE", description="Share of all files that is hashed again with each sweep."
    )


class ObjectStoreSettings(SettingsSection):
    """The S3-compatible object store. Credentials come from the usual AWS_* variables."""

    bucket: str | None = Field(
        None,
        alias="SUPPORT_S3_BUCKET",
        description="Bucket. Unset: files stay on the local disk. Credentials come from the usual `AWS_*` variables.",
    )
    endpoint: BaseUrl | None = Field(
        None, alias="SUPPORT_S3_ENDPOINT", description="URL of an S3-compatible server. Unset: Amazon S3."
    )
    region: str = Field("us-east-1", alias="SUPPORT_S3_REGION", description="Region of the bucket.")
    access_key_id: SecretStr | None = Field(
        None, alias="AWS_ACCESS_KEY_ID", description="Access key. Unset: a web identity, or the role of the machine."
    )
    secret_access_key: SecretStr | None = Field(
        None, alias="AWS_SECRET_ACCESS_KEY", description="Secret of the access key."
    )
    offload_after: Duration | None = Field(
        None,
        alias="SUPPORT_OFFLOAD_AFTER",
        description="Age at which the service moves files to S3. Unset: only `support-service offload` does.",
    )

    @property
    def credentials(self) -> dict[str, str]:
        given = {"access_key_id": self.access_key_id, "secret_access_key": self.secret_access_key}
        return {name: secret.get_secret_value() for name, secret in given.items() if secret}


class EventSettings(SettingsSection):
    """Inbound events, published events and webhooks."""

    redis_url: RedisUrl | None = Field(
        None,
        alias="SUPPORT_EVENTS_REDIS_URL",
        description="Redis of the event streams. Unset: `SUPPORT_REDIS_URL`; both unset: events stay in the process.",
    )
    stream: str = Field(
        "support.events", alias="SUPPORT_EVENTS_STREAM", min_length=1, description="Stream of published events."
    )
    inbound_stream: str = Field(
        "support.inbound", alias="SUPPORT_EVENTS_INBOUND_STREAM", min_length=1, description="Stream of inbound events."
    )
    keep: Count = Field(
        100_000,
        alias="SUPPORT_EVENTS_KEEP",
        ge=1,
        description="Approximate number of published events that Redis keeps. Of applied inbound events it keeps "
        "a tenth, at least 10,000, for `support-service restored`.",
    )
    webhooks: Webhooks = Field(
        (),
        alias="SUPPORT_WEBHOOKS",
        validate_default=False,
        description="Endpoints: a list of objects with `name`, `url`, `secret` and optional `types`.",
    )


class LinkSettings(SettingsSection):
    """Where the runbooks and the dashboards of this service are: `GET /support/oncall` links them."""

    runbooks_url: BaseUrl | None = Field(
        None,
        alias="SUPPORT_RUNBOOKS_URL",
        description="Where this repository's `runbooks/` is served. Unset: on-call gets no links to runbooks.",
    )
    grafana_url: BaseUrl | None = Field(
        None,
        alias="SUPPORT_GRAFANA_URL",
        description="Address of the Grafana with the dashboards. Unset: on-call gets no links to panels.",
    )
    prometheus_url: BaseUrl | None = Field(
        None,
        alias="SUPPORT_PROMETHEUS_URL",
        description="Address of the Prometheus that evaluates the alerts. On-call's verdict then has its alerts, too: "
        "they know of the other replicas and of the probe. Unset: a replica judges by its own figures.",
    )
