"""Checks of the OTEL_* variables whose wrong values OpenTelemetry does not notice at the start.

Only variables that the configured exporters read are checked. A platform may set an OTLP protocol for every process,
and a process without an OTLP exporter must start with it.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from urllib.parse import urlsplit

Environ = Mapping[str, str]
ValueRule = tuple[Callable[[str], bool], str]  # predicate for valid values, and the expected values as text

PROPAGATORS = {"tracecontext", "baggage", ""}


def _is_http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return named and not re.search(r"\s", text)


def _is_pattern_list(text: str) -> bool:
    try:
        re.compile("|".join(part.strip() for part in text.split(",")))
    except re.error:
        return False
    return True


PATTERNS_RULE: ValueRule = (_is_pattern_list, "comma-separated regular expressions")
ENDPOINT_RULE: ValueRule = (_is_http_url, "a URL that starts with http:// or https://")
PROTOCOL_RULE: ValueRule = (lambda text: text == "http/protobuf", "http/protobuf, the only protocol that is built in")

# The contrib packages compile the first three at startup and the others at each request, where an error is a 500.
PATTERNS = (
    "OTEL_PYTHON_EXCLUDED_URLS",
    "OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS",
    "OTEL_PYTHON_AIOHTTP_CLIENT_EXCLUDED_URLS",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_RESPONSE",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS",
)
RULES_OF_OTLP = {"PROTOCOL": PROTOCOL_RULE, "ENDPOINT": ENDPOINT_RULE}
# Beginnings of the names of variables that the SDK, its exporters or its automatic instrumentation read, but not here.
UNUSED_VARIABLES = (
    "OTEL_BLRP_",
    "OTEL_CONFIG_FILE",
    "OTEL_EXPERIMENTAL_CONFIG_FILE",
    "OTEL_EXPORTER_JAEGER_",
    "OTEL_EXPORTER_OTLP_LOGS_",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
    "OTEL_EXPORTER_PROMETHEUS_",
    "OTEL_EXPORTER_ZIPKIN_",
    "OTEL_LOGRECORD_",
    "OTEL_LOGS_EXPORTER",
    "OTEL_LOG_LEVEL",
    "OTEL_METRICS_EXEMPLAR_FILTER",
    "OTEL_PYTHON_CONFIGURATOR",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
    "OTEL_PYTHON_DISTRO",
    "OTEL_PYTHON_LOG",
)


def first_invalid_variable(
    environ: Environ, metrics: Collection[str], traces: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield (variable, expected values) for the first invalid value that the configured exporters read."""
    for variable, (is_valid, expected) in _rules_of_exporters(environ, metrics, traces).items():
        if (given := environ.get(variable)) and not is_valid(given.strip()):
            yield variable, expected
            return


def _rules_of_exporters(environ: Environ, metrics: Collection[str], traces: Collection[str]) -> dict[str, ValueRule]:
    rules = dict.fromkeys(PATTERNS if traces else (), PATTERNS_RULE)
    for signal, exporters in (("METRICS", metrics), ("TRACES", traces)):
        if "otlp" in exporters:
            for name, rule in RULES_OF_OTLP.items():
                special = f"OTEL_EXPORTER_OTLP_{signal}_{name}"
                rules[special if environ.get(special) else f"OTEL_EXPORTER_OTLP_{name}"] = rule
    return rules


def ineffective_warnings(environ: Environ, metrics: Collection[str], traces: Collection[str]) -> Iterator[str]:
    """Yield warnings that name the variables that are set and have no effect.

    A platform may disable telemetry with OTEL_SDK_DISABLED; the other variables need no warning then.
    """
    given = environ.get("OTEL_PROPAGATORS", "")
    if not {name.strip().lower() for name in given.split(",")} <= PROPAGATORS:
        yield f"OTEL_PROPAGATORS={given!r} is ignored: only W3C trace context is supported"
    given = environ.get("OTEL_SDK_DISABLED", "")
    if given.strip().lower() not in ("", "true", "false"):
        yield f"OTEL_SDK_DISABLED={given!r} is treated as false: expected true or false"
    if given.strip().lower() == "true":
        return
    names = sorted(name for name, value in environ.items() if value and value.strip().lower() != "none")
    if unused := [name for name in names if name.startswith(UNUSED_VARIABLES)]:
        yield f"{', '.join(unused)}: no effect, because the service does not use {_enumerate_names(unused)}"
    otlp = [name for name in names if name.startswith("OTEL_EXPORTER_OTLP_") and name not in unused]
    if otlp and "otlp" not in {*metrics, *traces}:
        yield (
            f"{', '.join(otlp)}: no effect, because neither OTEL_METRICS_EXPORTER nor OTEL_TRACES_EXPORTER names otlp"
        )


def _enumerate_names(names: Collection[str]) -> str:
    return "it" if len(names) == 1 else "them"
