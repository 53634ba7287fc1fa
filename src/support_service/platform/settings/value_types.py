"""Types of the variables' values; the error of each type says which values are expected."""

import base64
import os
import re
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated
from urllib.parse import urlsplit

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
from pydantic_core import ErrorDetails

from support_service.core import units
from support_service.core.database_url import host_texts, options_of
from support_service.core.domain.principals import ROLES
from support_service.core.http import check_port, parse_base_url, parse_http_url
from support_service.core.redis_url import SENTINEL_SCHEMES, parse_sentinel_url

MAX_SHOWN_LENGTH = 200  # characters of an invalid value in an error message
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_CHANNELS = 50  # names; each makes a series of metrics
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")  # options of redis-py
POSTGRES_OPTIONS = frozenset(
    {
        *("user", "password", "password_file", "host", "port", "database", "target_session_attrs"),
        *("ssl", "sslmode", "sslrootcert", "sslcert", "sslkey"),
    }
)

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def _check_redis_url(value: str) -> str:
    if not value.startswith(("redis://", "rediss://", "unix://", *SENTINEL_SCHEMES)):
        raise ValueError(f"a URL that starts with redis://, rediss://, unix:// or {SENTINEL_SCHEMES[0]}")
    url = value
    if value.startswith(SENTINEL_SCHEMES):
        for host in host_texts(value):
            check_port(f"redis://{host}")
        found = parse_sentinel_url(value)
        if found is None:
            raise ValueError(f"{SENTINEL_SCHEMES[0]}HOST:PORT,HOST:PORT/SERVICE/DATABASE, with the name of the service")
        url = found.primary
    check_port(url)
    # Imported here, so that a service without Redis does not load the client.
    from redis.asyncio import BlockingConnectionPool

    try:
        BlockingConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]  # opens no connection
    except (TypeError, ValueError):
        raise ValueError("a URL whose query, if any, has only connection options of redis-py") from None
    for name, path in options_of(value).items():
        if name in TLS_FILES and not os.access(path, os.R_OK):
            raise ValueError(f"{name}: the path of a file that the service can read")
    return value


def _check_database_url(value: str) -> str:
    """Check a database URL; the driver in SQLAlchemy's `sqlite+aiosqlite:` or `postgresql+asyncpg:` is left out."""
    value = re.sub(r"^(sqlite|postgresql)\+\w+:", r"\1:", value)
    if not value.startswith(("sqlite:///", "postgresql://")):
        raise ValueError("sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE")
    if ":memory:" in value or value == "sqlite:///":
        raise ValueError("the path of a file, because a database in memory is lost with its connection")
    if value.startswith("postgresql:"):
        for host in host_texts(value):
            check_port(f"postgresql://{host}")
        options = options_of(value)
        if not options.keys() <= POSTGRES_OPTIONS:
            raise ValueError(f"a URL whose query has only these options: {', '.join(sorted(POSTGRES_OPTIONS))}")
        if options.get("sslmode", SSL_MODES[0]) not in SSL_MODES:
            raise ValueError(f"a URL whose sslmode is one of {', '.join(SSL_MODES)}")
        for name in ("sslrootcert", "sslcert", "sslkey"):
            if name in options and not os.access(options[name], os.R_OK):
                raise ValueError(f"a URL whose {name} is the path of a file that this process may read")
    return value


def check_secure_url(value: str) -> str:
    """Check a URL of https, or of http on loopback. Raises ValueError with the expected form."""
    parts = urlsplit(value)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)):
        raise ValueError("a URL that starts with https:// (http:// on loopback only)")
    check_port(value)
    return value


def _check_issuer(value: str) -> str:
    if "?" in value or "#" in value:
        raise ValueError("a URL without a query and a fragment")
    return check_secure_url(value)


def _check_key_source(value: str) -> str:
    if "://" in value:
        try:
            check_secure_url(value)
        except ValueError as failure:
            raise ValueError(f"{failure}, or the path of a file") from None
    return value


def _parse_scopes(value: object) -> object:
    """Check scopes that are separated by blanks; `openid` makes the provider send an ID token."""
    scopes = str(value).split()
    if "openid" not in scopes:
        raise ValueError("scopes with `openid` among them, such as 'openid profile offline_access'")
    return " ".join(scopes)


# The expected values, by pydantic error type, where pydantic's message is about its internals; {} is that message.
EXPECTED_BY_ERROR_TYPE = {
    "bool_parsing": "true or false",
    "extra_forbidden": "no such field",
    "float_parsing": "a number",
    "greater_than": "a number {}",
    "greater_than_equal": "a number {}",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer",
    "less_than_equal": "a number {}",
    "missing": "a value",
    "string_pattern_mismatch": "a string that matches {pattern}",
    "string_type": "a string",
    "too_short": "at least {min_length} characters",
    "tuple_type": "a list",
}


def expected_values(error: ErrorDetails) -> str:
    """Return the expected values for a pydantic error, as the end of a sentence."""
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return EXPECTED_BY_ERROR_TYPE.get(error["type"], "{}").format(message, **error.get("ctx", {}))


def mask_secrets(name: str, value: str) -> str:
    """Return a value for an error message: shortened, and with passwords and secrets masked, since it is logged.

    A URL is masked in any variable, because it may have been meant for another one.
    """
    if name.endswith(("_HEADERS", "_TOKEN")) or name == "SUPPORT_MASKING_KEY":
        return "***"
    if name == "SUPPORT_WEBHOOKS":
        value = re.sub(r'whsec_[^"\s]*|("secret"\s*:\s*)"[^"]*"', r"\1***", value)
        return _shorten(re.sub(r'(:\\?/\\?/)[^"\s]*', r"\1***", value))  # many webhook URLs have a secret in the path
    if "://" not in value and not name.endswith(("_URL", "_ENDPOINT", "_KEYS")):
        return _shorten(value)
    scheme, separator, rest = value.partition("://") if "://" in value else ("", "", value)
    head, question, query = rest.partition("?")
    if "@" in query:  # ambiguous: part of the query, or of a password with a question mark
        return _shorten(f"{scheme}{separator}***")
    before, at, host = head.rpartition("@")
    return _shorten(f"{scheme}{separator}{'***@' if at else before}{host}{'?***' if question else ''}")


def _shorten(value: str) -> str:
    return repr(value if len(value) <= MAX_SHOWN_LENGTH else f"{value[:MAX_SHOWN_LENGTH]}…")


def _exporters_validator(*allowed: str) -> BeforeValidator:
    """Return a validator of comma-separated exporter names in the OpenTelemetry form; `none` must stand alone."""

    def split(value: object) -> object:
        names = tuple(name.strip().lower() for name in str(value).split(","))
        if names == ("none",):
            return ()
        if not set(names) <= set(allowed):
            raise ValueError(f"none, or a comma-separated list of {', '.join(allowed)}")
        return names

    return BeforeValidator(split)


def _parse_content_types(value: object) -> object:
    """Split a comma-separated list of content types; `image/*` matches every image type."""
    names = tuple(name.strip().lower() for name in str(value).split(","))
    if not all(re.fullmatch(r"[a-z0-9!#$&^_.+-]+/([a-z0-9!#$&^_.+-]+|\*)", name) for name in names):
        raise ValueError("comma-separated content types, such as application/pdf,image/*")
    return names


def _parse_channels(value: object) -> object:
    """Split a comma-separated list of channels, each in the form of a metric label; repeated ones count once."""
    names = tuple(dict.fromkeys(name.strip() for name in str(value).split(",")))
    if len(names) > MAX_CHANNELS or not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,31}", name) for name in names):
        raise ValueError(
            f"at most {MAX_CHANNELS} comma-separated channels of 1 to 32 letters, digits and _.:-, such as "
            "whatsapp,in-store"
        )
    return names


def _parse_group_map(value: object) -> object:
    r"""Split a comma-separated list of GROUP:NAME; a group may have colons, and may be listed more than once.

    A comma of a group is written `\,`, as in the name of an entry in a directory.
    """
    listed = [each.replace("\\,", ",") for each in re.split(r"(?<!\\),", str(value))]
    pairs = tuple(tuple(part.strip() for part in each.rpartition(":")[::2]) for each in listed)
    if not all(group and name for group, name in pairs):
        raise ValueError("comma-separated pairs of GROUP:NAME, such as support-agents:agent")
    return pairs


def _check_roles(value: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    if not {role for _, role in value} <= {*ROLES}:
        raise ValueError(f"comma-separated pairs of GROUP:ROLE, with the roles {', '.join(ROLES)}")
    return value


def _parse_request_rate(value: object) -> object:
    """Parse a rate limit into (requests, seconds); `off` is (0, 0)."""
    return (0, 0) if str(value).strip().lower() == "off" else units.parse_request_rate(str(value))


def _parse_networks(value: object) -> object:
    """Split a comma-separated list of IP addresses and networks."""
    try:
        return tuple(ip_network(each.strip(), strict=False) for each in str(value).split(","))
    except ValueError:
        raise ValueError("comma-separated IP addresses and networks, such as 10.0.0.0/8,fd00::1") from None


def _parse_origins(value: object) -> object:
    """Split a comma-separated list of origins in the form that browsers send; a wildcard is not supported."""
    names = tuple(each.strip() for each in str(value).split(","))
    if not all(re.fullmatch(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", name) for name in names):
        raise ValueError("comma-separated origins in lower case, such as https://desk.example")
    return names


def _parse_token(value: object) -> object:
    """Strip and check a token that is sent in a header; a token read from a file may end with a line break."""
    token = str(value).strip()
    if re.search(r"[\s\x00-\x1f\x7f]", token):
        raise ValueError("a token without spaces and line breaks")
    return token


RequestRate = Annotated[tuple[int, int], BeforeValidator(_parse_request_rate)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_parse_networks)]
Origins = Annotated[tuple[str, ...], BeforeValidator(_parse_origins)]
ContentTypes = Annotated[tuple[str, ...], BeforeValidator(_parse_content_types)]
Duration = Annotated[timedelta, BeforeValidator(units.parse_duration)]
# Upper bounds: Redis limits a time to live and the length of a stream, and every database limits integers.
Seconds = Annotated[float, Field(le=units.MAX_DURATION.total_seconds())]
Count = Annotated[int, Field(le=units.MAX_INTEGER)]
Share = Annotated[float, BeforeValidator(units.parse_percentage)]
MetricsExporters = Annotated[tuple[str, ...], _exporters_validator("prometheus", "otlp", "console")]
TracesExporters = Annotated[tuple[str, ...], _exporters_validator("otlp", "console")]
Channels = Annotated[tuple[str, ...], BeforeValidator(_parse_channels)]
GroupMap = Annotated[tuple[tuple[str, str], ...], BeforeValidator(_parse_group_map)]
RoleMap = Annotated[GroupMap, AfterValidator(_check_roles)]
Issuer = Annotated[str, AfterValidator(_check_issuer)]
Scopes = Annotated[str, BeforeValidator(_parse_scopes)]
KeySource = Annotated[str, AfterValidator(_check_key_source)]
HttpUrl = Annotated[str, AfterValidator(parse_http_url)]
BaseUrl = Annotated[str, AfterValidator(parse_base_url)]
RedisUrl = Annotated[str, AfterValidator(_check_redis_url)]
DatabaseUrl = Annotated[str, AfterValidator(_check_database_url)]


class WebhookSetting(BaseModel):
    """An endpoint that receives events of some types; no types mean all.

    Its secret has the Standard Webhooks form: `whsec_` and 24 to 64 bytes in base64.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    url: HttpUrl
    secret: str
    types: tuple[str, ...] = ()

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, value: str) -> str:
        try:
            key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
        except ValueError:
            key = b""
        if not value.startswith("whsec_") or not 24 <= len(key) <= 64:  # noqa: PLR2004 - the specification's bounds
            raise ValueError("a secret of the form whsec_ and 24 to 64 bytes in base64")
        return value


WEBHOOKS_FORM = 'a JSON list of {"name", "url", "secret", "types"?}, with unique names'


def _parse_webhooks(value: object) -> object:
    """Parse a variable's JSON list of webhooks; errors leave out its values, because some are secrets."""
    if not isinstance(value, str):
        return value
    try:
        found = TypeAdapter(tuple[WebhookSetting, ...]).validate_json(value)
    except ValidationError as failure:
        first = failure.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{WEBHOOKS_FORM}{f'; {place}: {expected_values(first)}' if place else ''}") from None
    if len({each.name for each in found}) != len(found):
        raise ValueError(WEBHOOKS_FORM)
    return found


Token = Annotated[SecretStr, BeforeValidator(_parse_token)]
Webhooks = Annotated[tuple[WebhookSetting, ...], BeforeValidator(_parse_webhooks)]
