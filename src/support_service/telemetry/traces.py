"""Traces: W3C trace context in and out, and spans where OTEL_TRACES_EXPORTER asks for them.

The contrib packages give the spans, with the stable conventions. Without an exporter a request's context still passes
through to the services behind, so that a trace that runs through here is not cut in two.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import aiohttp
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation._semconv import _StabilityMode
from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.instrumentation.aiohttp_server import AioHttpServerInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from support_service.telemetry.http import UNMEASURED
from support_service.telemetry.provider import STOP_WITHIN, within

PROPAGATOR = TraceContextTextMapPropagator()
# Contrib takes expressions, and searches: without its ends one would hide an attachment named metrics, too.
UNTRACED = f"^/({'|'.join(sorted(path.removeprefix('/') for path in UNMEASURED))})$"
EXCLUDED = "OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS"
EXCLUDED_BY_ALL = "OTEL_PYTHON_EXCLUDED_URLS"
REDACTED = "REDACTED"


class WithoutQuery(SpanProcessor):
    """Takes the query's text out of a request's span: what people search for, and what should not be there at all."""

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:  # noqa: ARG002 - the SDK's
        if span.attributes and "url.query" in span.attributes:
            span.set_attribute("url.query", REDACTED)


class Traces:
    """The tracer provider of one app; without an exporter there is none, and nothing is recorded."""

    def __init__(self, exporters: Collection[str], resource: Resource) -> None:
        self._provider: TracerProvider | None = None
        if not exporters:
            return
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(WithoutQuery())
        if "otlp" in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        if "console" in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))

    @contextmanager
    def of_applications(self) -> Iterator[None]:
        """Applications that are made within the block give a span for each request."""
        if self._provider is None:
            yield
            return
        # The stable conventions are an opt-in of the contrib packages', and the environment is the only way to say so.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")  # noqa: TID251
        given = os.environ.get(EXCLUDED) or os.environ.get(EXCLUDED_BY_ALL, "")  # noqa: TID251
        if UNTRACED not in given:
            os.environ[EXCLUDED] = ",".join(filter(None, (UNTRACED, given)))  # noqa: TID251
        instrumentor = AioHttpServerInstrumentor()
        instrumentor.instrument(tracer_provider=self._provider)
        try:
            yield
        finally:
            instrumentor.uninstrument()  # it has changed aiohttp itself, which other apps of the process use too

    def of_clients(self) -> list[aiohttp.TraceConfig]:
        """What a client session needs to give a span for each request."""
        if self._provider is None:
            return []
        return [
            create_trace_config(
                tracer_provider=self._provider,
                meter_provider=NoOpMeterProvider(),  # the calls are measured as support.timeline.source already
                sem_conv_opt_in_mode=_StabilityMode.HTTP,
            )
        ]

    def close(self) -> None:
        """Export the last spans, within STOP_WITHIN; blocks, so call it in a thread."""
        if self._provider:
            within(STOP_WITHIN, self._provider.shutdown)


@contextmanager
def continued(headers: Mapping[str, str]) -> Iterator[None]:
    """Work within the trace that a request's headers name, if they name one and no span of our own does it already."""
    if "traceparent" not in headers or trace.get_current_span().get_span_context().is_valid:
        yield
        return
    token = context.attach(PROPAGATOR.extract(headers))
    try:
        yield
    finally:
        context.detach(token)


def outgoing() -> dict[str, str]:
    """The headers that hand the present trace on; none where there is none."""
    headers: dict[str, str] = {}
    PROPAGATOR.inject(headers)
    return headers


def trace_id() -> str | None:
    """The present trace's id in hex, as every backend shows it."""
    present = trace.get_current_span().get_span_context()
    return trace.format_trace_id(present.trace_id) if present.is_valid else None
