"""Settings are read once from the environment, and an invalid value stops the start with one line."""

import re
from datetime import timedelta
from operator import attrgetter
from pathlib import Path
from typing import get_args

import pytest

from support_service.core.database_url import options_of
from support_service.core.domain.case_vocabulary import CHANNELS
from support_service.core.errors import UserError
from support_service.core.units import MAX_DURATION, MAX_INTEGER, MAX_REQUESTS_PER_SECOND
from support_service.platform.settings import (
    LOOPBACK,
    REMOVED,
    ClientSettings,
    Settings,
    SettingsSection,
    earlier_service,
)
from support_service.platform.settings.section import variables_of
from tests.support.deployments import ROOT
from tests.support.each import each_row


def test_defaults_work_on_a_laptop():
    """Without variables the service listens on loopback, stores below `var`, and calls no other service."""
    settings = Settings.load({})
    files, timeline = settings.attachments, settings.timeline
    assert (settings.server.host, settings.server.port, settings.server.auth) == ("127.0.0.1", 8000, "open")
    assert settings.database.url == "sqlite:///var/support.db"
    assert (files.directory, files.max_bytes) == (Path("var/attachments"), 26_214_400)
    assert (timeline.redis_url, settings.upstream_urls) == (None, {})
    assert (timeline.cache_ttl, timeline.source_timeout, timeline.deadline) == (300, 2.5, 3.0)


def test_limits_follow_from_others():
    """Streams have half of the connections, an address 16 times the streams of a principal, a read 1.2 calls."""
    given = {"SUPPORT_CONNECTIONS": "100", "SUPPORT_STREAMS_PER_PRINCIPAL": "3", "SUPPORT_TIMELINE_SOURCE_TIMEOUT": "5"}
    settings = Settings.load(given)
    assert (settings.limits.streams, settings.limits.streams_per_address, settings.timeline.deadline) == (50, 48, 6)


def test_channels_are_added_to_the_known_ones():
    """A channel that is known or repeated counts once; by default only one channel is synthetic."""
    assert Settings.load({}).cases.known_channels == CHANNELS
    assert Settings.load({}).cases.synthetic_channels == ("synthetic",)
    cases = Settings.load({"SUPPORT_CHANNELS": " email, in-store,in-store ", "SUPPORT_SYNTHETIC_CHANNELS": "a,b"}).cases
    assert cases.known_channels == (*CHANNELS, "in-store")
    assert cases.synthetic_channels == ("a", "b")


def test_variables_set_their_settings():
    """Variables set their settings; an empty variable counts as unset; unrelated variables are ignored."""
    settings = Settings.load(
        {"SUPPORT_PORT": "0", "SUPPORT_HOST": "::1", "SUPPORT_DATABASE_URL": "postgresql://u:p@db/support"}
        | {"SUPPORT_ORDER_URL": "http://orders/", "SUPPORT_PAYMENT_URL": "", "SUPPORT_TIMELINE_CACHE_TTL": "0.5"}
        | {"SUPPORT_REDIS_URL": "unix:///run/redis.sock", "SUPPORT_UNKNOWN": "x", "PATH": "/bin"}
        | {"OTEL_METRICS_EXPORTER": "prometheus, otlp", "OTEL_TRACES_EXPORTER": "console,otlp"}
    )
    assert (settings.server.port, settings.server.host) == (0, "::1")
    assert settings.database.url == "postgresql://u:p@db/support"
    assert settings.upstream_urls == {"order": "http://orders"}
    assert (settings.timeline.redis_url, settings.timeline.cache_ttl) == ("unix:///run/redis.sock", 0.5)
    assert (settings.telemetry.metrics, settings.telemetry.traces) == (("prometheus", "otlp"), ("console", "otlp"))


@each_row(
    ("variables", "metrics", "traces"),
    [
        ({}, ("prometheus",), ()),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "none"}, (), ()),
        ({"OTEL_METRICS_EXPORTER": "console", "OTEL_TRACES_EXPORTER": "otlp"}, ("console",), ("otlp",)),
        ({"OTEL_METRICS_EXPORTER": "", "OTEL_TRACES_EXPORTER": ""}, ("prometheus",), ()),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_METRICS_EXPORTER": "otlp", "OTEL_TRACES_EXPORTER": "otlp"}, (), ()),
        ({"OTEL_SDK_DISABLED": " TRUE"}, (), ()),
        ({"OTEL_SDK_DISABLED": "1", "OTEL_METRICS_EXPORTER": "OTLP,Prometheus"}, ("otlp", "prometheus"), ()),
        ({"OTEL_SDK_DISABLED": "maybe", "OTEL_METRICS_EXPORTER": "None"}, (), ()),
        ({"OTEL_SDK_DISABLED": "false", "OTEL_TRACES_EXPORTER": "otlp"}, ("prometheus",), ("otlp",)),
    ],
)
def test_exporters_are_lists_and_can_be_disabled(variables, metrics, traces):
    """`none` and OTEL_SDK_DISABLED disable all exporters; an empty variable counts as unset."""
    telemetry = Settings.load(variables).telemetry
    assert (telemetry.metrics, telemetry.traces) == (metrics, traces)


ORIGIN, NETWORKS = "https://desk.example", "10.0.0.0/8,fd00::1"
EXPORTERS = "none, or a comma-separated list of prometheus, otlp, console"
PAIRS = "comma-separated pairs of GROUP:NAME, such as support-agents:agent"
ROLES = "comma-separated pairs of GROUP:ROLE, with the roles agent, supervisor, analyst, customer, service"
# What is said about each value to be allowed instead.
INVALID_VALUES = {
    "SUPPORT_PORT": {"eighty": "an integer", "-1": "0", "65536": "65535", "x" * 100_000: "an integer"},
    "SUPPORT_PUBLIC_URL": {"support.example": "https://"},
    "SUPPORT_AUTH": {"none": "'open', 'token' or 'jwt'"},
    "SUPPORT_JWT_ROLE_MAP": {"agents": PAIRS, "agents:agent,": PAIRS, "agents:boss": ROLES},
    "SUPPORT_JWT_TEAM_MAP": {":returns": PAIRS},
    "SUPPORT_JWT_KEYS": {"http://keys.example/jwks": "https://", "ftp://keys.example/jwks": "https://"},
    "SUPPORT_ADMIN_PORT": {"65536": "65535"},
    "SUPPORT_DATABASE_POOL": {"0": "1"},
    "SUPPORT_SHED_LAG": {"-1": "0"},
    "SUPPORT_STOP_DELAY": {"soon": "number"},
    **{f"SUPPORT_{name}_URL": {"ftp://x": "http://", "x": "http://"} for name in ("PAYMENT", "FULFILLMENT")},
    **{f"SUPPORT_{name}_AFTER": {"30": "such as 12h", "a year": "such as 12h"} for name in ("OFFLOAD", "RETENTION")},
    "SUPPORT_ACCESS_LOG": {"2": "1"},
    "SUPPORT_LOG_LEVEL": {"loud": "'debug', 'info', 'warning' or 'error'"},
    "SUPPORT_TRUSTED_PROXIES": {"proxy.example": NETWORKS, "10.0.0.0/33": NETWORKS},
    "SUPPORT_CORS_ORIGINS": dict.fromkeys(("*", "desk.example", "https://desk.example/", "null"), ORIGIN),
    "SUPPORT_RATE_LIMIT": {"100": "100/s", "0/s": "off, or"},
    "SUPPORT_RATE_LIMIT_ADDRESS": {"-1/s": "100/s", "5/day": "/min"}
    | dict.fromkeys(("1000001/s", "60000001/min"), "up to 1000000/s"),
    "SUPPORT_CONNECTIONS": {"1": "8"},
    "SUPPORT_DATABASE_URL": {"mysql://db": "sqlite:///PATH or postgresql://", "sqlite:support.db": "sqlite:///PATH"}
    | dict.fromkeys(("sqlite:///", "sqlite:///:memory:"), "the path of a file"),
    "SUPPORT_REDIS_URL": {"http://redis": "redis+sentinel://"}
    | {
        f"redis+sentinel://{hosts}": "with the name of the service" for hosts in ("a:26379,b:26379", "a:1/support/zero")
    },
    "SUPPORT_ORDER_URL": {"orders:8080": "http://", "http://": "a host name", "http://:80/": "a host name"}
    | dict.fromkeys(("http://or ders/", "http://orders\r\n.evil/"), "without spaces")
    | {"http://orders/#a": "without a query and a fragment"},
    "SUPPORT_TIMELINE_CACHE_TTL": {"soon": "number", "nan": "", "inf": "", "1e17": "3153600000"},
    "SUPPORT_TIMELINE_SOURCE_TIMEOUT": {"-1": "greater than 0"},
    "SUPPORT_ATTACHMENT_MAX_BYTES": {"0": "greater than 0", "25MB": "an integer"},
    "SUPPORT_ATTACHMENT_TYPES": {"pdf": "application/pdf,image/*"},
    "SUPPORT_CHANNELS": dict.fromkeys(("c" * 33, "a,,b"), "1 to 32 letters")
    | {",".join(f"c{number}" for number in range(51)): "at most 50 comma-separated channels"},
    "SUPPORT_SYNTHETIC_CHANNELS": {'a"b': "1 to 32 letters"},
    "SUPPORT_ATTACHMENT_STORE": {"tape": "'local' or 's3'"},
    "SUPPORT_ATTACHMENT_DOWNLOAD": {"push": "'stream' or 'redirect'"},
    "SUPPORT_S3_ENDPOINT": {"s3.example": "https://"},
    "SUPPORT_SCRUB_SAMPLE": {"101%": "0% to 100%", "some%": "0% to 100%"},
    "SUPPORT_EVENTS_KEEP": {"99999999999999999999": "9223372036854775807"},
    "OTEL_METRICS_EXPORTER": dict.fromkeys(("statsd", "prometheus,none", "prometheus,"), EXPORTERS),
    "OTEL_TRACES_EXPORTER": {"prometheus": "none, or a comma-separated list of otlp, console"},
}


def refusal_of(environ, load=Settings.load):
    """Return the one line that refuses these variables."""
    with pytest.raises(UserError) as refusal:
        load(environ)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def rows(table):
    """Return (variable, value, what is allowed) of a table of invalid values."""
    return [(variable, value, allowed) for variable, values in table.items() for value, allowed in values.items()]


@each_row(("variable", "value", "allowed"), rows(INVALID_VALUES))
def test_invalid_value_is_refused_with_what_is_allowed(variable, value, allowed):
    """One line, which is short whatever the variable holds, names the variable, its value and the allowed values."""
    line = refusal_of({variable: value})
    assert len(line) < 500
    assert line.startswith(f"{variable}={value[:200]!r}"[:-1])  # a longer one is cut
    assert allowed in line.partition("expected ")[2]
    assert not re.search("[Ii]nput|[Vv]alid|pars", line)  # pydantic's own terms


def test_durations_shares_and_types_are_parsed():
    settings = Settings.load(
        {"SUPPORT_S3_BUCKET": "files", "SUPPORT_OFFLOAD_AFTER": "1.5h", "SUPPORT_RETENTION_AFTER": "52w"}
        | {"SUPPORT_SCRUB_SAMPLE": "0.5%", "SUPPORT_ATTACHMENT_TYPES": "image/*, Application/PDF"}
    )
    files = settings.attachments
    assert (settings.s3.offload_after, files.retention) == (timedelta(minutes=90), timedelta(days=364))
    assert (files.scrub, files.types) == (0.005, ("image/*", "application/pdf"))


def test_rates_networks_and_origins_are_parsed():
    """The default on loopback is no rate limit."""
    settings = Settings.load(
        {"SUPPORT_RATE_LIMIT": "6000/min", "SUPPORT_RATE_LIMIT_ADDRESS": "OFF"}
        | {"SUPPORT_TRUSTED_PROXIES": "10.0.0.0/8, ::1"}
        | {"SUPPORT_CORS_ORIGINS": "https://desk.example, http://localhost:3000"}
    )
    assert (settings.rate, settings.address_rate) == ((6000, 60), (0, 0))
    assert [str(each) for each in settings.limits.trusted_proxies] == ["10.0.0.0/8", "::1/128"]
    assert settings.limits.cors_origins == ("https://desk.example", "http://localhost:3000")
    assert (Settings.load({}).rate, Settings.load({}).address_rate) == ((0, 0), (0, 0))


STREAMS = ("SUPPORT_EVENTS_STREAM", "SUPPORT_EVENTS_INBOUND_STREAM")


@each_row("host", ["0.0.0.0", "::", "192.168.1.5", "support.example", "127.0.0.1.evil.example", " "])
def test_open_mode_is_refused_on_other_addresses(host):
    """Without authentication any address but loopback is refused for serving, in one line."""
    assert refusal_of({"SUPPORT_HOST": host}, Settings.load_to_serve).startswith(f"SUPPORT_HOST={host!r}: ")
    assert Settings.load({"SUPPORT_HOST": host}).server.host == host  # other commands than `serve` listen nowhere
    assert Settings.load_to_serve({"SUPPORT_HOST": host, "SUPPORT_AUTH": "token"}).server.host == host
    for near in LOOPBACK:
        assert Settings.load_to_serve({"SUPPORT_HOST": near}).server.host == near


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_admin_port_must_differ_from_the_api_port(host):
    """The error names the admin port; a free port is allowed, and so is the port on another host."""
    environ = {"SUPPORT_HOST": host, "SUPPORT_AUTH": "token", "SUPPORT_ADMIN_PORT": "8000"}
    with pytest.raises(UserError, match=r"^SUPPORT_ADMIN_PORT=8000: expected a port other than the API"):
        Settings.load_to_serve(environ)
    Settings.load_to_serve(environ | {"SUPPORT_ADMIN_PORT": "0", "SUPPORT_PORT": "0"})
    Settings.load_to_serve(environ | {"SUPPORT_HOST": "10.0.0.7"})


@pytest.mark.parametrize("given", [{"SUPPORT_EVENTS_STREAM": "support.inbound"}, dict.fromkeys(STREAMS, "events")])
def test_inbound_and_outbound_streams_must_differ(given):
    """With one stream for both directions the service would consume its own events."""
    with pytest.raises(UserError, match=r"^SUPPORT_EVENTS_STREAM and SUPPORT_EVENTS_INBOUND_STREAM are both '"):
        Settings.load(given)


def test_each_variable_is_read_by_one_field():
    names = [field.alias for section in SettingsSection.__subclasses__() for field in section.model_fields.values()]
    assert len(set(names)) == len(names)
    assert all(name.startswith(("SUPPORT_", "OTEL_", "AWS_")) for name in names)


OTLP = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_TRACES_EXPORTER": "otlp"}
OTEL_HEADERS = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS"
PATTERN = "regular expressions"
INVALID_OTEL_VALUES = {
    "OTEL_PYTHON_EXCLUDED_URLS": {"livez,(": PATTERN},
    "OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS": {"*": PATTERN},
    "OTEL_PYTHON_AIOHTTP_CLIENT_EXCLUDED_URLS": {"[": PATTERN},
    **{
        f"{OTEL_HEADERS}_{name}": {"x-(": PATTERN}
        for name in ("SERVER_REQUEST", "SERVER_RESPONSE", "CLIENT_REQUEST", "CLIENT_RESPONSE")
    },
    f"{OTEL_HEADERS}_SANITIZE_FIELDS": {"**": PATTERN},
    "OTEL_EXPORTER_OTLP_PROTOCOL": {"grpc": "http/protobuf"},
    "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": {"http/json": "http/protobuf"},
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": {"grpc": "http/protobuf"},
    "OTEL_EXPORTER_OTLP_ENDPOINT": dict.fromkeys(
        ("foo", "collector:4318", "http://collec tor:4318", "http://[::1", "http://collector:99999"), "http://"
    ),
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": {"https://": "http://"},
}


@each_row(("variable", "value", "allowed"), rows(INVALID_OTEL_VALUES))
def test_invalid_opentelemetry_value_is_refused(variable, value, allowed):
    """A value that OpenTelemetry would fail on is refused in one line, and ignored if nothing reads it."""
    line = refusal_of(OTLP | {variable: value})
    assert line.startswith(f"{variable}={value[:200]!r}"[:-1])  # a longer one is cut
    assert allowed in line
    Settings.load({variable: value})
    Settings.load(OTLP | {variable: value, "OTEL_SDK_DISABLED": "true"})


def test_valid_opentelemetry_values_are_accepted():
    Settings.load(
        OTLP
        | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        | {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector:4318/base"}
        | {"OTEL_PYTHON_EXCLUDED_URLS": "internal/.*, ^/docs$", f"{OTEL_HEADERS}_SERVER_REQUEST": ".*"}
    )


OIDC = {"SUPPORT_AUTH": "token", "SUPPORT_OIDC_ISSUER": "https://id.example/a/", "SUPPORT_OIDC_CLIENT_ID": "console"}
GRPC = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}


@each_row(
    ("variables", "warning"),
    [
        *(({"OTEL_PROPAGATORS": value}, f"OTEL_PROPAGATORS={value!r} ") for value in ("foo", "b3")),
        ({"OTEL_SDK_DISABLED": "maybe"}, "OTEL_SDK_DISABLED='maybe' "),
        ({"SUPPORT_ATTACHMENT_DOWNLOAD": "redirect"}, "SUPPORT_ATTACHMENT_DOWNLOAD='redirect' "),
        # Files of closed cases are deleted for good: 30s in place of 30d must not go unseen.
        ({"SUPPORT_RETENTION_AFTER": "30s"}, "SUPPORT_RETENTION_AFTER='30s' deletes files less than a day after"),
        (
            {"SUPPORT_JWT_KEYS": "https://id.example/jwks"},
            "SUPPORT_JWT_KEYS has no effect: SUPPORT_AUTH is 'open', not 'jwt'",
        ),
        ({"SUPPORT_OIDC_CLIENT_ID": "console"}, "SUPPORT_OIDC_CLIENT_ID has no effect: SUPPORT_OIDC_ISSUER is not set"),
        # A protocol that an exporter would use stops the start.
        (GRPC, "OTEL_EXPORTER_OTLP_PROTOCOL: no effect, because neither "),
        (
            GRPC | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"},
            "OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL: no effect, because neither ",
        ),
        (OTLP | {"OTEL_LOGS_EXPORTER": "otlp"}, "OTEL_LOGS_EXPORTER: no effect, because the service does not use it"),
        (
            {"OTEL_EXPORTER_PROMETHEUS_PORT": "9464", "OTEL_BLRP_SCHEDULE_DELAY": "1"},
            "OTEL_BLRP_SCHEDULE_DELAY, OTEL_EXPORTER_PROMETHEUS_PORT: no effect, because the service does not use them",
        ),
    ],
)
def test_value_without_effect_gives_a_warning(variables, warning):
    """So does one that deletes much. An empty variable and a usual value give none."""
    (line,) = Settings.load(variables).warnings
    assert line.startswith(warning)
    assert Settings.load(dict.fromkeys(variables, "")).warnings == ()


@each_row(
    "variables",
    [
        {"SUPPORT_RETENTION_AFTER": "30d"},
        GRPC | {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_LOGS_EXPORTER": "none", "OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"},
        OTLP | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
    ],
)
def test_value_with_an_effect_gives_no_warning(variables):
    assert Settings.load(variables).warnings == ()


@each_row(
    ("variable", "given", "read", "expected"),
    [
        ("SUPPORT_LOG_LEVEL", "INFO", "server.log_level", "info"),
        ("SUPPORT_LOG_LEVEL", " WARN", "server.log_level", "warning"),
        ("SUPPORT_AUTH", "Open", "server.auth", "open"),
        ("SUPPORT_ATTACHMENT_STORE", "LOCAL", "attachments.store", "local"),
        ("SUPPORT_ATTACHMENT_DOWNLOAD", "STREAM", "attachments.download", "stream"),
    ],
)
def test_enumerated_values_are_accepted_in_any_case(variable, given, read, expected):
    settings = Settings.load({variable: given})
    assert attrgetter(read)(settings) == expected
    assert settings.warnings == ()


@each_row(
    ("variable", "reason"),
    [
        ("SUPPORT_PROT", ": unknown setting; did you mean SUPPORT_PORT?"),
        ("support_port", ": unknown setting; did you mean SUPPORT_PORT?"),
        ("Support_Database_Url", ": unknown setting; did you mean SUPPORT_DATABASE_URL?"),
        ("SUPPORT_ORDERS_URL", ": unknown setting; did you mean SUPPORT_ORDER_URL?"),
        ("SUPPORT_XYZ", ": unknown setting"),
        ("SUPPORT_HEADER_TIMEOUT", ", because it was removed: the headers of a request arrive within 10 s"),
        *[
            (name, ", because it was removed: the primary answers lists and searches, and no standby does")
            for name in ("SUPPORT_DATABASE_READ_URL", "SUPPORT_DATABASE_READ_URL_FILE", "support_database_read_url")
        ],
    ],
)
def test_unknown_variable_gives_a_warning_with_the_nearest_name(variable, reason):
    """The warning does not show the value. Of a removed setting it says what holds instead."""
    (line,) = Settings.load({variable: "9", "SUPPORT_PORT": "0", "PATH": "/bin"}).warnings
    assert line == f"{variable} has no effect{reason}"


def test_page_of_upgrades_has_the_settings_of_which_a_start_warns():
    """`SUPPORT_DATABASE_HOST` stops a start. None of them is a setting."""
    page = (ROOT / "docs/operations/upgrades.md").read_text().split("## Removed settings")[1].split("\n## ")[0]
    first_cells = "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))
    named = set(re.findall(r"SUPPORT_\w+", first_cells))
    assert named == REMOVED.keys() | {"SUPPORT_DATABASE_HOST"}
    assert not named & {name for section in SettingsSection.__subclasses__() for name in variables_of(section)}


def test_variables_of_the_earlier_service_give_one_warning_with_their_new_names():
    """Names in any case count, as for the earlier service; values are not shown."""
    new_names = {
        "SERVICE_DATABASE_URL": "SUPPORT_DATABASE_URL",
        "SERVICE_REDIS_URL": "SUPPORT_REDIS_URL",
        "SERVICE_ORDER_SERVICE_URL": "SUPPORT_ORDER_URL",
        "SERVICE_PAYMENT_BASE_URL": "SUPPORT_PAYMENT_URL",
        "service_fulfillment_service_url": "SUPPORT_FULFILLMENT_URL",
        "SERVICE_SUPPORT_ATTACHMENT_DIR": "SUPPORT_ATTACHMENT_DIR",
        "SERVICE_TIMELINE_CACHE_TTL_SECONDS": "SUPPORT_TIMELINE_CACHE_TTL",
    }
    others = {"SERVICE_EMPTY": "", "SERVICE_PORT": "tcp://10.0.0.7:80", "SERVICE_PORT_80_TCP_ADDR": "10.0.0.7"}
    (line,) = Settings.load(dict.fromkeys([*new_names, "SERVICE_KAFKA_TOPIC"], "secret") | others).warnings
    for earlier, new in new_names.items():
        assert f"{earlier} is now {new}" in line
    assert "SERVICE_KAFKA_TOPIC has no counterpart" in line
    for absent in ("secret", "SERVICE_EMPTY", "SERVICE_PORT"):
        assert absent not in line
    fields = {field.alias for section in SettingsSection.__subclasses__() for field in section.model_fields.values()}
    assert set(earlier_service.NEW_NAME_BY_EARLIER_NAME.values()) <= fields


def test_driver_in_a_database_url_is_ignored():
    """The URLs of the earlier service name one."""
    for given, used in (
        ("sqlite+aiosqlite:///./var/support.db", "sqlite:///./var/support.db"),
        ("postgresql+asyncpg://u:p@db/support", "postgresql://u:p@db/support"),
        *[(f"postgresql://u:p@{hosts}/support",) * 2 for hosts in ("db-1:1,db-2:2", "[::1]:1,[::2]")],
    ):
        assert Settings.load({"SUPPORT_DATABASE_URL": given}).database.url == used


def test_variables_injected_by_kubernetes_give_no_warning():
    """Kubernetes sets such variables for services whose names start with support-."""
    of_service = ("PORT", "PORT_8000_TCP_ADDR", "SERVICE_HOST")
    of_probe = ("SERVICE_HOST", "SERVICE_PORT_METRICS", "PORT", "PORT_9101_TCP")
    injected = [f"SUPPORT_SERVICE_{name}" for name in of_service] + [f"SUPPORT_PROBE_{name}" for name in of_probe]
    assert Settings.load(dict.fromkeys(injected, "tcp://10.0.0.7:8000")).warnings == ()


@pytest.mark.parametrize(
    ("query", "allowed"),
    [
        ("foo=bar", "a URL whose query, if any, has only connection options of redis-py"),
        ("ssl_ca_certs=/nowhere.pem", "ssl_ca_certs: the path of a file that the service can read"),
    ],
)
@pytest.mark.parametrize("url", ["rediss://cache/0", "rediss+sentinel://a:1,b:2/support/0"])
def test_options_of_a_redis_url_are_checked(url, query, allowed):
    """They may have secrets, so that the refusal does not show them."""
    with pytest.raises(UserError, match=f"{re.escape(allowed)}$"):
        Settings.load({"SUPPORT_REDIS_URL": f"{url}?{query}"})


SECRETS = {
    "SUPPORT_DATABASE_URL": (
        *("postgresql://user:se/cret@host/db", "postgresql://user:se?cret@host/db"),
        *("postgresql://user:se@cret@host:x/db", "postgresql://user:secret@db-1:1,db-2:x/db"),
        *("postgres://host/db?user=u&password=cret", "postgres://host/db?user=u&password=se@cret"),
        *("postgresql://host/db?foo=cret", "postgres:user:cret@host"),
    ),
    "SUPPORT_REDIS_URL": (
        *("redis://:cret@host:abc/0", "redis://:cret@host/0?foo=bar"),
        *("redis+sentinel://user:cret@a:1,b:x/support/0", "redis://host/0?socket_timeout=cret"),
    ),
    "SUPPORT_ORDER_URL": ("orders:cret@host", "http://orders:cret/x@host"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("user:cret@collector",),
    "SUPPORT_TIMELINE_CACHE_TTL": ("redis://:cret@host/0",),
    "SUPPORT_AUTH": ("postgresql://user:cret@host/db",),
}


@each_row(("variable", "value"), [(variable, value) for variable, values in SECRETS.items() for value in values])
def test_secrets_in_an_invalid_value_are_not_shown(variable, value):
    """Whatever is wrong with a URL or a header, parts that may be a password are masked."""
    line = refusal_of(OTLP | {variable: value})
    assert line.startswith(f"{variable}=")
    assert ("cret" in line, "***" in line) == (False, True)


SECRET = "whsec_" + "c2VjcmV0" * 4
WEBHOOK = f'{{"name": "crm", "url": "http://a", "secret": "{SECRET}"}}'


@pytest.mark.parametrize(
    "url", ["https://user:pass/word@host/", r"https:\/\/host\/password", "https://host/?a=password"]
)
def test_webhook_credentials_are_not_shown(url):
    """Only the scheme of a webhook's URL is shown, since many URLs have a credential in the path."""
    line = refusal_of({"SUPPORT_WEBHOOKS": f'[{{"name": "crm", "url": "{url}", "types": 7}}]'})
    assert [each in line for each in ("word@host", 'password"', "***")] == [False, False, True]


@each_row(
    "value",
    [
        *("{", "{}", "7", '[{"name": "crm", "url": "http://crm"}]'),
        f'[{{"name": "a b", "url": "http://crm", "secret": "{SECRET}"}}]',
        f'[{{"name": "crm", "url": "ftp://crm", "secret": "{SECRET}"}}]',
        f'[{{"name": "crm", "url": "http://crm", "secret": "{SECRET}", "type": []}}]',
        f'[{{"name": "crm", "url": "http://crm", "secret": "{SECRET[:20]}"}}]',
        f'[{{"name": "crm", "url": "http://crm", "secret": "{SECRET[6:]}"}}]',
        ", ".join([f'[{{"name": "crm", "url": "http://crm", "secret": "{SECRET}"}}'] * 2) + "]",
        f"[{WEBHOOK}, {WEBHOOK}]",
    ],
)
def test_invalid_webhooks_are_refused(value):
    """One line says what is allowed, and shows no secret. Valid ones are read as JSON."""
    (hook,) = Settings.load({"SUPPORT_WEBHOOKS": f"[{WEBHOOK}]"}).events.webhooks
    assert (hook.name, hook.url, hook.secret, hook.types) == ("crm", "http://a", SECRET, ())
    line = refusal_of({"SUPPORT_WEBHOOKS": value})
    assert line.startswith("SUPPORT_WEBHOOKS=")
    assert "a JSON list of" in line
    assert not re.search("[Ii]nput|[Vv]alid|pars|Field|c2VjcmV0", line)


def test_jwt_mode_requires_keys_issuer_and_audience():
    """Without these a token would prove nothing, so the start is refused and names the missing variable."""
    needed = {"KEYS": "https://id.example/jwks", "ISSUER": "https://id.example/", "AUDIENCE": "support"}
    complete = {f"SUPPORT_JWT_{name}": value for name, value in needed.items()}
    of_mode = {"SUPPORT_AUTH": "jwt", "SUPPORT_HOST": "0.0.0.0"}
    assert Settings.load(of_mode | complete).access.jwt_audience == "support"
    for missing in complete:
        assert refusal_of(of_mode | complete | {missing: ""}) == f"SUPPORT_AUTH='jwt' requires {missing}"


def test_jwt_keys_are_read_over_tls_from_loopback_or_a_file():
    """A URL that only looks like loopback is refused, and its possible password is masked."""
    for place in ("https://id.example/jwks", "http://localhost:8080/jwks", "/etc/keys.json", "key.pem"):
        assert Settings.load({"SUPPORT_JWT_KEYS": place}).access.jwt_keys == place
    line = refusal_of({"SUPPORT_JWT_KEYS": "http://127.0.0.1@id.example/jwks"})
    assert line.startswith("SUPPORT_JWT_KEYS='http://***@id.example/jwks': expected ")


def test_metrics_token_is_stripped_and_checked():
    """White space around the token is removed; white space within is refused, and the token is never shown."""
    for value in ("0123456789abcdef\n", " 0123456789abcdef\r\n"):
        settings = Settings.load({"SUPPORT_METRICS_TOKEN": value})
        assert settings.access.metrics_token.get_secret_value() == "0123456789abcdef"
        assert "0123456789abcdef" not in repr(settings)
    for value in ("0123456789 abcdef", "0123456789\nabcdef\n", "0123456789\tabcdef"):
        line = refusal_of({"SUPPORT_METRICS_TOKEN": value})
        assert line.startswith("SUPPORT_METRICS_TOKEN=***: expected a token without spaces")
        assert "0123456789" not in line
    line = refusal_of({"SUPPORT_METRICS_TOKEN": "0123456789abcde\n"})
    assert line == "SUPPORT_METRICS_TOKEN=***: expected at least 16 characters"


NUMBERS = [
    str(field.alias)
    for section in SettingsSection.__subclasses__()
    for field in section.model_fields.values()
    if {int, float} & {field.annotation, *get_args(field.annotation)}
]


@each_row("variable", NUMBERS)
def test_every_number_has_an_upper_limit(variable):
    """A number that is too large is refused at the start, and does not fail later without a message."""
    with pytest.raises(UserError, match=f"^{variable}='9{{30}}': expected "):
        Settings.load({variable: "9" * 30})


def test_largest_numbers_are_accepted():
    duration = MAX_DURATION.total_seconds()
    settings = Settings.load(
        {"SUPPORT_TIMELINE_CACHE_TTL": str(duration), "SUPPORT_EVENTS_KEEP": str(MAX_INTEGER)}
        | {"SUPPORT_RATE_LIMIT": f"{MAX_REQUESTS_PER_SECOND}/s", "SUPPORT_RATE_LIMIT_ADDRESS": "999999999/h"}
    )
    assert (settings.timeline.cache_ttl, settings.events.keep) == (duration, MAX_INTEGER)
    assert (settings.rate, settings.address_rate) == ((MAX_REQUESTS_PER_SECOND, 1), (999_999_999, 3600))


def test_value_in_a_file_is_read_without_its_line_break(tmp_path):
    """Of any variable, and of a command without other settings. A variable and its file exclude each other."""
    path = tmp_path / "secret"
    path.write_text("s3cret\n")
    settings = Settings.load({"AWS_SECRET_ACCESS_KEY_FILE": str(path), "SUPPORT_MASKING_KEY_FILE": str(path)})
    assert settings.s3.credentials == {"secret_access_key": "s3cret"}
    assert (settings.server.masking_key, settings.warnings) == ("s3cret", ())
    client = ClientSettings.load({"SUPPORT_TOKEN_FILE": str(path)})
    assert client.headers == {"Authorization": "Bearer s3cret"}
    line = refusal_of({"SUPPORT_MASKING_KEY": "a", "SUPPORT_MASKING_KEY_FILE": str(path)})
    assert "SUPPORT_MASKING_KEY_FILE and SUPPORT_MASKING_KEY are both set" in line
    assert refusal_of({"SUPPORT_PORT_FILE": str(path)}) == f"SUPPORT_PORT_FILE={str(path)!r}: expected an integer"


def test_file_without_a_value_is_refused(tmp_path):
    path = tmp_path / "secret"
    for content, reason in ((None, "No such file"), (b"\n", "the file is empty"), (b"\xff", "the file is not UTF-8")):
        if content is not None:
            path.write_bytes(content)
        for name in ("SUPPORT_WEBHOOKS", "SUPPORT_DATABASE_PASSWORD"):
            line = refusal_of({f"{name}_FILE": str(path), "SUPPORT_DATABASE_URL": "postgresql://u@db/x"})
            assert line.startswith(f"{name}_FILE='{path}': can't be read: {reason}")


@each_row(
    ("given", "url"),
    [
        ("postgresql://support@db/support", "postgresql://support@db/support?password=a%26b%3Dc%2Fd"),
        ("postgresql+asyncpg://u@db/x?sslmode=require", "postgresql://u@db/x?sslmode=require&password=a%26b%3Dc%2Fd"),
        ("postgresql:///x?host=/run", "postgresql:///x?host=%2Frun&password=a%26b%3Dc%2Fd"),
    ],
)
def test_password_of_the_database_may_stand_beside_its_url(given, url, tmp_path):
    """The URL quotes what has a meaning in it. Of a file it has the path, because the file is read again."""
    path = tmp_path / "password"
    path.write_text("a&b=c/d")
    password = {"SUPPORT_DATABASE_PASSWORD": "a&b=c/d"}
    assert Settings.load({"SUPPORT_DATABASE_URL": given} | password).database.url == url
    settings = Settings.load({"SUPPORT_DATABASE_URL": given, "SUPPORT_DATABASE_PASSWORD_FILE": str(path)})
    assert options_of(settings.database.url)["password_file"] == str(path)
    assert settings.warnings == ()


@each_row(
    ("parts", "reason"),
    [
        ({"HOST": "db"}, "SUPPORT_DATABASE_HOST was removed: set SUPPORT_DATABASE_URL, such as postgresql:"),
        ({"URL": "sqlite:///a.db", "PASSWORD": "secret"}, "SUPPORT_DATABASE_PASSWORD requires"),
        ({"PASSWORD_FILE": __file__}, "SUPPORT_DATABASE_PASSWORD_FILE requires a SUPPORT_DATABASE_URL of PostgreSQL"),
        ({"URL": "postgresql://u:other@db/x", "PASSWORD": "secret"}, "SUPPORT_DATABASE_PASSWORD is set besides"),
        ({"URL": "postgresql://u@db:port/x"}, "SUPPORT_DATABASE_URL='postgresql://.*': expected"),
        ({"URL": "postgresql://u@db/x?a=b"}, "SUPPORT_DATABASE_URL=.*: expected a URL whose query"),
        ({"URL": "postgresql://u@db/x?sslmode=on"}, "SUPPORT_DATABASE_URL=.*: expected a URL whose sslmode"),
        ({"URL": "postgresql://u@db/x?sslrootcert=/no"}, "SUPPORT_DATABASE_URL=.*sslrootcert is the path of a file"),
    ],
)
def test_parts_of_the_database_that_contradict_are_refused(parts, reason):
    """Nothing of a password is shown."""
    with pytest.raises(UserError, match=reason) as refusal:
        Settings.load({f"SUPPORT_DATABASE_{name}": value for name, value in parts.items()})
    assert "secret" not in str(refusal.value)


@each_row(
    ("changes", "refusal"),
    [
        ({"SUPPORT_AUTH": "open"}, "SUPPORT_OIDC_ISSUER requires SUPPORT_AUTH='jwt' or 'token'"),
        ({"SUPPORT_OIDC_CLIENT_ID": ""}, "SUPPORT_OIDC_ISSUER requires SUPPORT_OIDC_CLIENT_ID"),
        ({"SUPPORT_OIDC_ISSUER": "http://id.example"}, "expected a URL that starts with https:// (http:// on loopback"),
        ({"SUPPORT_OIDC_ISSUER": "https://id.example/?realm=a"}, "'https://id.example/?***': expected a URL without a"),
        ({"SUPPORT_OIDC_SCOPES": "profile"}, "'profile': expected scopes with `openid` among them, such as 'openid "),
        ({"SUPPORT_AUTH": "jwt", "SUPPORT_JWT_KEYS": "keys.json"}, "SUPPORT_AUTH='jwt' requires SUPPORT_JWT_ISSUER"),
        ({"SUPPORT_OIDC_CLIENT_SECRET_FILE": "/nothing"}, "='/nothing': can't be read: No such file or directory"),
    ],
)
def test_wrong_settings_of_the_sign_in_stop_the_start(changes, refusal):
    """The line begins with a variable of theirs. The issuer is kept as it is, and JWTs of it need no other setting."""
    line = refusal_of(OIDC | changes)
    assert refusal in line
    assert line.startswith(("SUPPORT_OIDC_ISSUER", *changes))
    for issuer in ("https://id.example/a/", "http://localhost:8080/realm", "http://127.0.0.1:1"):
        assert Settings.load(OIDC | {"SUPPORT_OIDC_ISSUER": issuer}).sign_in.issuer == issuer
    assert Settings.load(OIDC | {"SUPPORT_AUTH": "jwt"}).access.jwt_keys is None
