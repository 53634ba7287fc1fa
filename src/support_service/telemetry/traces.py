"""Traces: W3C trace context in and out, and spans where OTEL_TRACES_EXPORTER asks for them.

Without an exporter a request's context still passes through to the services behind, so that a trace that runs through
here is not cut in two.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import aiohttp
from opentelemetry import context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from support_service.telemetry import environment_hidden

PROPAGATOR = TraceContextTextMapPropagator()


class Traces(Protocol):
    """The spans of one app."""

    def of_applications(self) -> AbstractContextManager[None]:
        """Applications that are made within the block give a span for each request."""

    def of_clients(self) -> list[aiohttp.TraceConfig]:
        """What a client session needs to give a span for each request."""

    def close(self) -> None:
        """Export the last spans, within STOP_WITHIN; blocks, so call it in a thread."""


class NoTraces:
    """An app without an exporter: nothing is recorded."""

    def of_applications(self) -> AbstractContextManager[None]:
        return nullcontext()

    def of_clients(self) -> list[aiohttp.TraceConfig]:
        return []

    def close(self) -> None:
        """Nothing: there is nothing to export."""


def tracing(exporters: Collection[str], resource: Resource) -> Traces:
    """The traces of one app; OpenTelemetry's instrumentation is imported only where there is an exporter."""
    if not exporters:
        return NoTraces()
    with environment_hidden():
        from support_service.telemetry.spans import Spans
    return Spans(exporters, resource)


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
