"""Validation of the OTEL_* variables: the SDK answers a wrong value with a traceback, or ignores it silently.

Only variables that the configured exporters read are checked: a platform may set an OTLP protocol for every process,
and a process without an OTLP exporter must start with it.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from urllib.parse import urlsplit

Environ = Mapping[str, str]
Rule = tuple[Callable[[str], bool], str]  # predicate for valid values, and the expected values as text

QUEUE, BATCH = "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
QUEUE_SIZE, BATCH_SIZE = 2048, 512  # the specification's defaults
HEADER = re.compile(r"\s*[^\s=,;\"(){}<>@:/?\[\]\\]+\s*=[\x20-\x7e]*")
PROPAGATORS = {"tracecontext", "baggage", ""}
MAX_VALUE = 10**9  # Python's waits end at about 10**9 seconds; a thread that waits longer dies silently


def _number(text: str) -> bool:
    try:
        return 0 < float(text) <= MAX_VALUE
    except ValueError:
        return False


def _limit(text: str) -> bool:
    return text.isdecimal() and len(text) <= len(str(MAX_VALUE)) and int(text) <= MAX_VALUE


def _count(text: str) -> bool:
    return _limit(text) and int(text) > 0


def _http(text: str) -> bool:
    try:
        parts = urlsplit(text)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return named and not re.search(r"\s", text)


def _patterns(text: str) -> bool:
    try:
        re.compile("|".join(part.strip() for part in text.split(",")))
    except re.error:
        return False
    return True


COUNT: Rule = (_count, f"an integer above 0 and up to {MAX_VALUE}")
# Length bounds of the SDK's lists; none may be unlimited.
LIMIT: Rule = (_limit, f"an integer from 0 up to {MAX_VALUE}")
NUMBER: Rule = (_number, f"a number above 0 and up to {MAX_VALUE}")
PATTERNS: Rule = (_patterns, "comma-separated regular expressions")
ENDPOINT: Rule = (_http, "a URL that starts with http:// or https://")
PROTOCOL: Rule = (lambda text: text == "http/protobuf", "http/protobuf, the only protocol that is built in")
COMPRESSION: Rule = (lambda text: text.lower() in ("none", "gzip", "deflate"), "none, gzip or deflate")
HEADERS: Rule = (
    lambda text: all(HEADER.fullmatch(part) for part in text.split(",") if part.strip()),
    "comma-separated name=value pairs with percent-encoded values",
)

METRICS: dict[str, Rule] = {"OTEL_METRIC_EXPORT_INTERVAL": NUMBER, "OTEL_METRIC_EXPORT_TIMEOUT": NUMBER}
TRACES: dict[str, Rule] = {
    "OTEL_BSP_SCHEDULE_DELAY": COUNT,
    "OTEL_BSP_EXPORT_TIMEOUT": COUNT,
    QUEUE: COUNT,
    BATCH: COUNT,
    "OTEL_ATTRIBUTE_COUNT_LIMIT": LIMIT,
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": LIMIT,
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": LIMIT,
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": LIMIT,
    "OTEL_SPAN_EVENT_COUNT_LIMIT": LIMIT,
    "OTEL_SPAN_LINK_COUNT_LIMIT": LIMIT,
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": LIMIT,
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": LIMIT,
    # The contrib packages compile the first three at startup and the others at each request, where an error is a 500.
    "OTEL_PYTHON_EXCLUDED_URLS": PATTERNS,
    "OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS": PATTERNS,
    "OTEL_PYTHON_AIOHTTP_CLIENT_EXCLUDED_URLS": PATTERNS,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": PATTERNS,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE": PATTERNS,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST": PATTERNS,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_RESPONSE": PATTERNS,
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS": PATTERNS,
}
OTLP: dict[str, Rule] = {
    "PROTOCOL": PROTOCOL,
    "ENDPOINT": ENDPOINT,
    "TIMEOUT": NUMBER,
    "COMPRESSION": COMPRESSION,
    "HEADERS": HEADERS,
}


# Beginnings of the names of variables that the SDK, its exporters or its automatic instrumentation read, but not here.
UNUSED = (
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


def first_invalid(environ: Environ, metrics: Collection[str], traces: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield (variable, expected values) for the first invalid value that the configured exporters read."""
    for variable, (is_valid, expected) in _rules(environ, metrics, traces).items():
        if (given := environ.get(variable)) and not is_valid(given.strip()):
            yield variable, expected
            return
    if not traces:
        return
    batch, queue = int(environ.get(BATCH) or BATCH_SIZE), int(environ.get(QUEUE) or QUEUE_SIZE)
    if batch > queue:
        if environ.get(QUEUE):
            yield QUEUE, f"an integer of at least {batch}, the value of {BATCH}"
        else:
            yield BATCH, f"an integer of at most {queue}, the value of {QUEUE}"


def _rules(environ: Environ, metrics: Collection[str], traces: Collection[str]) -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    if {"otlp", "console"} & set(metrics):
        rules |= METRICS
    if traces:
        rules |= TRACES
    for signal, exporters in (("METRICS", metrics), ("TRACES", traces)):
        if "otlp" in exporters:
            for name, rule in OTLP.items():
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
    if unused := [name for name in names if name.startswith(UNUSED)]:
        yield f"{', '.join(unused)}: no effect, because the service does not use {_these(unused)}"
    otlp = [name for name in names if name.startswith("OTEL_EXPORTER_OTLP_") and name not in unused]
    if otlp and "otlp" not in {*metrics, *traces}:
        yield (
            f"{', '.join(otlp)}: no effect, because neither OTEL_METRICS_EXPORTER nor OTEL_TRACES_EXPORTER names otlp"
        )


def _these(names: Collection[str]) -> str:
    return "it" if len(names) == 1 else "them"
