"""Spans of requests and of calls to other services, with the stable conventions, by OpenTelemetry's contrib packages.

Imported by `traces.tracing` alone, where OTEL_TRACES_EXPORTER names an exporter.
"""

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import aiohttp
from opentelemetry import context
from opentelemetry.instrumentation._semconv import _StabilityMode
from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.instrumentation.aiohttp_server import AioHttpServerInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from support_service.telemetry import provider
from support_service.telemetry.http import UNMEASURED

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


class Spans:
    """The tracer provider of one app, and what gives it spans: OpenTelemetry's instrumentation of aiohttp."""

    def __init__(self, exporters: Collection[str], resource: Resource) -> None:
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(WithoutQuery())
        for name, exporter in EXPORTERS.items():
            if name in exporters:
                self._provider.add_span_processor(BatchSpanProcessor(exporter()))

    @contextmanager
    def of_applications(self) -> Iterator[None]:
        """Applications that are made within the block give a span for each request."""
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
        return [
            create_trace_config(
                tracer_provider=self._provider,
                meter_provider=NoOpMeterProvider(),  # the calls are measured as support.timeline.source already
                sem_conv_opt_in_mode=_StabilityMode.HTTP,
            )
        ]

    def close(self) -> None:
        """Export the last spans, within STOP_WITHIN; blocks, so call it in a thread."""
        provider.within(provider.STOP_WITHIN, self._provider.shutdown)


def _otlp() -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


EXPORTERS: dict[str, Callable[[], SpanExporter]] = {"otlp": _otlp, "console": ConsoleSpanExporter}
