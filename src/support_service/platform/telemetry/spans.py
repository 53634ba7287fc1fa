"""Spans of requests, of calls to upstream services, of operations on databases, and of events.

The first two come from OpenTelemetry's contrib packages with stable conventions.

Only `telemetry.create_tracing` imports this module, and only if OTEL_TRACES_EXPORTER names an exporter.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import aiohttp
import pydantic_core
from aiohttp import web
from aiohttp.typedefs import Middleware
from opentelemetry import context, trace
from opentelemetry.instrumentation._semconv import _StabilityMode
from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.instrumentation.aiohttp_server import AioHttpServerInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from support_service.platform.telemetry.http import UNMEASURED_PATHS
from support_service.platform.telemetry.provider import run_with_timeout
from support_service.platform.telemetry.traces import (
    PROPAGATOR,
    TRACEPARENT,
    MessageSpans,
    RecordSpan,
    propagation_headers,
)

# The contrib package searches with regular expressions: without ^ and $ this would also exclude an attachment named
# metrics.
UNTRACED_PATHS = f"^/({'|'.join(sorted(path.removeprefix('/') for path in UNMEASURED_PATHS))})$"
EXCLUDED_URLS_VARIABLE = "OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS"
EXCLUDED_URLS_OF_ALL_VARIABLE = "OTEL_PYTHON_EXCLUDED_URLS"
REDACTED = "REDACTED"


class QueryRedactor(SpanProcessor):
    """Redacts the query string in request spans: it has search texts, and may have data that does not belong there."""

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:  # noqa: ARG002 - the SDK's
        if span.attributes and "url.query" in span.attributes:
            span.set_attribute("url.query", REDACTED)


class SdkTracing:
    """The tracer provider of one app, fed by OpenTelemetry's instrumentation of aiohttp."""

    def __init__(self, exporters: Collection[str], resource: Resource, shutdown_timeout: float) -> None:
        self._shutdown_timeout = shutdown_timeout
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(QueryRedactor())
        for name, exporter in EXPORTER_FACTORIES.items():
            if name in exporters:
                self._provider.add_span_processor(BatchSpanProcessor(exporter()))

    def server_middlewares(self) -> list[Middleware]:
        """Return the middlewares that give an application one span per request."""
        # The contrib packages' stable conventions are opt-in, and only through this environment variable.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")  # noqa: TID251
        given = os.environ.get(EXCLUDED_URLS_VARIABLE) or os.environ.get(EXCLUDED_URLS_OF_ALL_VARIABLE, "")  # noqa: TID251
        if UNTRACED_PATHS not in given:
            os.environ[EXCLUDED_URLS_VARIABLE] = ",".join(filter(None, (UNTRACED_PATHS, given)))  # noqa: TID251
        instrumentor = AioHttpServerInstrumentor()
        instrumentor.instrument(tracer_provider=self._provider)
        try:
            return list(web.Application().middlewares)
        finally:
            instrumentor.uninstrument()  # it patches aiohttp itself, which other apps in the process use too

    def client_trace_configs(self) -> list[aiohttp.TraceConfig]:
        """Return the trace configurations that give a client session one span per request."""
        return [
            create_trace_config(
                tracer_provider=self._provider,
                meter_provider=NoOpMeterProvider(),  # support.timeline.source already measures the calls
                sem_conv_opt_in_mode=_StabilityMode.HTTP,
            )
        ]

    def span_recorder(self, system: str) -> RecordSpan:
        """Return a function that adds a span of a finished operation on this database system to the current span.

        Operations outside of a span, such as in background jobs, have none: they would be traces of one span.
        """
        tracer = self._provider.get_tracer("support_service")

        def record(operation: str, seconds: float, error: str) -> None:
            if not operation or not trace.get_current_span().is_recording():
                return
            ended = time.time_ns()
            attributes = {"db.system.name": system, "db.operation.name": operation}
            if error:
                attributes["error.type"] = error
            span = tracer.start_span(
                operation, kind=trace.SpanKind.CLIENT, attributes=attributes, start_time=ended - round(seconds * 1e9)
            )
            if error:
                span.set_status(trace.StatusCode.ERROR)
            span.end(ended)

        return record

    def message_spans(self, broker: str) -> MessageSpans:
        """Return the spans of events that pass through a kind of broker, such as redis."""
        return SdkMessageSpans(self._provider.get_tracer("support_service"), broker)

    def close(self) -> None:
        """Export the last spans, within the shutdown timeout. Blocks; call it in a thread."""
        run_with_timeout(self._shutdown_timeout, self._provider.shutdown)


class SdkMessageSpans:
    """Spans of events by the semantic conventions of messaging.

    An event that is published or delivered without a trace has none: it would be a trace of one span. An event of
    another service begins a trace if it has none, because the operations of the database belong to it.
    """

    def __init__(self, tracer: trace.Tracer, broker: str) -> None:
        self._tracer = tracer
        self._broker = broker

    @contextmanager
    def publishing(self, stream: str, events: Sequence[str | bytes]) -> Iterator[None]:
        """Add a span to the trace of each event of a batch."""
        spans = [span for span in (self._producer("publish", self._broker, stream, event) for event in events) if span]
        try:
            yield
        except BaseException as failure:
            for span in spans:
                _fail(span, failure)
            raise
        finally:
            for span in spans:
                span.end()

    @contextmanager
    def processing(self, stream: str, event_id: str, sent: Mapping[str, str]) -> Iterator[None]:
        """Add a span around the application of an event; the block is in it."""
        attributes = _attributes("process", self._broker, stream, event_id)
        attributes["messaging.consumer.group.name"] = "support-service"
        given = PROPAGATOR.extract(sent) if TRACEPARENT in sent else None
        span = self._tracer.start_span(
            f"process {stream}", context=given, kind=trace.SpanKind.CONSUMER, attributes=attributes
        )
        with _current(span):
            yield

    @contextmanager
    def delivering(self, endpoint: str, event: str) -> Iterator[dict[str, str]]:
        """Add a span around a delivery, and yield the headers that continue its trace; the block is in the span."""
        span = self._producer("deliver", "webhook", endpoint, event)
        if span is None:
            yield {}
            return
        with _current(span):
            yield propagation_headers()

    def _producer(self, operation: str, system: str, destination: str, event: str | bytes) -> trace.Span | None:
        """Start a span in the trace of an event, or else in the current one. Return None if there is neither."""
        sent = pydantic_core.from_json(event)
        given = PROPAGATOR.extract(sent) if sent.get(TRACEPARENT) else None
        if not trace.get_current_span(given).get_span_context().is_valid:
            return None
        return self._tracer.start_span(
            f"{operation} {destination}",
            context=given,
            kind=trace.SpanKind.PRODUCER,
            attributes=_attributes(operation, system, destination, sent["id"]),
        )


@contextmanager
def _current(span: trace.Span) -> Iterator[None]:
    """Make a span the current one, and end it. An exception fails it, without its text, which may quote an event."""
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except BaseException as failure:
            _fail(span, failure)
            raise


def _fail(span: trace.Span, failure: BaseException) -> None:
    span.set_attribute("error.type", type(failure).__name__)
    span.set_status(trace.StatusCode.ERROR)


def _attributes(operation: str, system: str, destination: str, message_id: str) -> dict[str, str]:
    return {
        "messaging.system": system,
        "messaging.destination.name": destination,
        "messaging.operation.name": operation,
        "messaging.operation.type": "process" if operation == "process" else "send",
        "messaging.message.id": message_id,
    }


def _otlp_exporter() -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


EXPORTER_FACTORIES: dict[str, Callable[[], SpanExporter]] = {"otlp": _otlp_exporter, "console": ConsoleSpanExporter}
