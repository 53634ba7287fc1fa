"""Validation of the OTEL_* variables: the SDK answers a wrong value with a traceback, or ignores it silently.

Only variables that the configured exporters read are checked. A platform may set an OTLP protocol for every process,
and a process without an OTLP exporter must start with it.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from urllib.parse import urlsplit

Environ = Mapping[str, str]
ValueRule = tuple[Callable[[str], bool], str]  # predicate for valid values, and the expected values as text

QUEUE_SIZE_VARIABLE, BATCH_SIZE_VARIABLE = "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
DEFAULT_QUEUE_SIZE, DEFAULT_BATCH_SIZE = 2048, 512  # the specification's defaults
HEADER_PATTERN = re.compile(r"\s*[^\s=,;\"(){}<>@:/?\[\]\\]+\s*=[\x20-\x7e]*")
PROPAGATORS = {"tracecontext", "baggage", ""}
MAX_VALUE = 10**9  # Python's waits end at about 10**9 seconds; a thread that waits longer dies silently


def _is_number(text: str) -> bool:
    try:
        return 0 < float(text) <= MAX_VALUE
    except ValueError:
        return False


def _is_limit(text: str) -> bool:
    return text.isdecimal() and len(text) <= len(str(MAX_VALUE)) and int(text) <= MAX_VALUE


def _is_count(text: str) -> bool:
    return _is_limit(text) and int(text) > 0


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


COUNT_RULE: ValueRule = (_is_count, f"an integer above 0 and up to {MAX_VALUE}")
# Length bounds of the SDK's lists; none may be unlimited.
LIMIT_RULE: ValueRule = (_is_limit, f"an integer from 0 up to {MAX_VALUE}")
NUMBER_RULE: ValueRule = (_is_number, f"a number above 0 and up to {MAX_VALUE}")
PATTERNS_RULE: ValueRule = (_is_pattern_list, "comma-separated regular expressions")
ENDPOINT_RULE: ValueRule = (_is_http_url, "a URL that starts with http:// or https://")
PROTOCOL_RULE: ValueRule = (lambda text: text == "http/protobuf", "http/protobuf, the only protocol that is built in")
COMPRESSION_RULE: ValueRule = (lambda text: text.lower() in ("none", "gzip", "deflate"), "none, gzip or deflate")
HEADERS_RULE: ValueRule = (
    lambda text: all(HEADER_PATTERN.fullmatch(part) for part in text.split(",") if part.strip()),
    "comma-separated name=value pairs with percent-encoded values",
)

RULES_OF_METRICS: dict[str, ValueRule] = {
    "OTEL_METRIC_EXPORT_INTERVAL": NUMBER_RULE,
    "OTEL_METRIC_EXPORT_TIMEOUT": NUMBER_RULE,
}
RULES_OF_TRACES: dict[str, ValueRule] = {
    "OTEL_BSP_SCHEDULE_DELAY": COUNT_RULE,
    "OTEL_BSP_EXPORT_TIMEOUT": COUNT_RULE,
    QUEUE_SIZE_VARIABLE: COUNT_RULE,
    BATCH_SIZE_VARIABLE: COUNT_RULE,
    "OTEL_ATTRIBUTE_COUNT_LIMIT": LIMIT_RULE,
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": LIMIT_RULE,
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": LIMIT_RULE,
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": LIMIT_RULE,
    "OTEL_SPAN_EVENT_COUNT_LIMIT": LIMIT_RULE,
    "OTEL_SPAN_LINK_COUNT_LIMIT": LIMIT_RULE,
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": LIMIT_RULE,
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": LIMIT_RULE,
    # The contrib packages compile the first three at startup and the others at each request, where an error is a 500.
    "OTEL_PYTHON_EXCLUDED_URLS": PATTERNS_RULE,
    "OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS": PATTERNS_RULE,
    "OTEL_PYTHON_AIOHTTP_CLIENT_EXCLUDED_URLS": PATTERNS_RULE,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": PATTERNS_RULE,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE": PATTERNS_RULE,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST": PATTERNS_RULE,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_RESPONSE": PATTERNS_RULE,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS": PATTERNS_RULE,
}
RULES_OF_OTLP: dict[str, ValueRule] = {
    "PROTOCOL": PROTOCOL_RULE,
    "ENDPOINT": ENDPOINT_RULE,
    "TIMEOUT": NUMBER_RULE,
    "COMPRESSION": COMPRESSION_RULE,
    "HEADERS": HEADERS_RULE,
}


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
    if not traces:
        return
    batch, queue = (
        int(environ.get(BATCH_SIZE_VARIABLE) or DEFAULT_BATCH_SIZE),
        int(environ.get(QUEUE_SIZE_VARIABLE) or DEFAULT_QUEUE_SIZE),
    )
    if batch > queue:
        if environ.get(QUEUE_SIZE_VARIABLE):
            yield QUEUE_SIZE_VARIABLE, f"an integer of at least {batch}, the value of {BATCH_SIZE_VARIABLE}"
        else:
            yield BATCH_SIZE_VARIABLE, f"an integer of at most {queue}, the value of {QUEUE_SIZE_VARIABLE}"


def _rules_of_exporters(environ: Environ, metrics: Collection[str], traces: Collection[str]) -> dict[str, ValueRule]:
    rules: dict[str, ValueRule] = {}
    if {"otlp", "console"} & set(metrics):
        rules |= RULES_OF_METRICS
    if traces:
        rules |= RULES_OF_TRACES
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
