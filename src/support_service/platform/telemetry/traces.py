"""Tracing: W3C trace context propagation, and spans if OTEL_TRACES_EXPORTER names an exporter.

Without an exporter the trace context of a request is still propagated to upstream services, so that traces through this
service stay connected.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Token
from typing import Protocol, TypeAlias

import aiohttp
from aiohttp.typedefs import Middleware
from multidict import istr
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

PROPAGATOR = TraceContextTextMapPropagator()
TRACEPARENT = istr("traceparent")
TraceToken: TypeAlias = Token[Context]
RecordSpan: TypeAlias = Callable[[str, float, str], None]


class MessageSpans(Protocol):
    """Spans around events that are published, processed and delivered, each in the trace of what caused its event."""

    def publishing(self, stream: str, events: Sequence[str | bytes]) -> AbstractContextManager[None]:
        """Return a block that appends events to a stream."""

    def processing(self, stream: str, event_id: str, sent: Mapping[str, str]) -> AbstractContextManager[None]:
        """Return a block that applies an event, in the trace that was sent with it."""

    def delivering(self, endpoint: str, event: str) -> AbstractContextManager[dict[str, str]]:
        """Return a block that sends an event to a webhook, with headers that continue its trace."""


class UntracedMessages:
    """Messages of an app without an exporter: an event is still applied in its trace."""

    def publishing(self, stream: str, events: Sequence[str | bytes]) -> AbstractContextManager[None]:  # noqa: ARG002
        return WITHOUT_SPAN

    def processing(self, stream: str, event_id: str, sent: Mapping[str, str]) -> AbstractContextManager[None]:  # noqa: ARG002
        return _continued(sent) if TRACEPARENT in sent else WITHOUT_SPAN

    def delivering(self, endpoint: str, event: str) -> AbstractContextManager[dict[str, str]]:  # noqa: ARG002
        return WITHOUT_HEADERS


WITHOUT_SPAN: AbstractContextManager[None] = nullcontext()
WITHOUT_HEADERS: AbstractContextManager[dict[str, str]] = nullcontext({})
UNTRACED = UntracedMessages()


class Tracing(Protocol):
    """Tracing of one app."""

    def server_middlewares(self) -> list[Middleware]:
        """Return the middlewares that give an application one span per request."""

    def client_trace_configs(self) -> list[aiohttp.TraceConfig]:
        """Return the trace configurations that give a client session one span per request."""

    def span_recorder(self, system: str) -> RecordSpan | None:
        """Return a function that adds a span of a finished operation on this database system, or None.

        Its arguments are the operation's name, its duration in seconds and its error type, empty on success.
        """

    def message_spans(self, broker: str) -> MessageSpans:
        """Return the spans of events that pass through a kind of broker, such as redis."""

    def close(self) -> None:
        """Export the last spans, within the shutdown timeout. Blocks; call it in a thread."""


class NoTracing:
    """Tracing of an app without an exporter: records no spans."""

    def server_middlewares(self) -> list[Middleware]:
        return []

    def client_trace_configs(self) -> list[aiohttp.TraceConfig]:
        return []

    def span_recorder(self, system: str) -> RecordSpan | None:  # noqa: ARG002 - the interface has it
        return None

    def message_spans(self, broker: str) -> MessageSpans:  # noqa: ARG002 - the interface has it
        return UNTRACED

    def close(self) -> None:
        """Do nothing: no spans were recorded."""


def continue_trace(headers: Mapping[str, str]) -> TraceToken | None:
    """Continue the trace of a request's headers until `end_trace`.

    Return None if there is none, or if an own span already continues it.
    """
    if TRACEPARENT not in headers or trace.get_current_span().get_span_context().is_valid:
        return None
    return context.attach(PROPAGATOR.extract(headers))


def end_trace(token: TraceToken | None) -> None:
    """End what `continue_trace` began."""
    if token is not None:
        context.detach(token)


@contextmanager
def _continued(sent: Mapping[str, str]) -> Iterator[None]:
    token = continue_trace(sent)
    try:
        yield
    finally:
        end_trace(token)


def propagation_headers() -> dict[str, str]:
    """Return the headers that propagate the current trace; empty without a trace."""
    headers: dict[str, str] = {}
    PROPAGATOR.inject(headers)
    return headers


def current_trace_and_span_ids() -> tuple[str | None, str | None]:
    """Return the ids of the current trace and span in hexadecimal, as trace backends show them; None without a trace.

    Without an exporter the span is the caller's.
    """
    present = trace.get_current_span().get_span_context()
    if not present.is_valid:
        return None, None
    return trace.format_trace_id(present.trace_id), trace.format_span_id(present.span_id)


def fail_span(error: str) -> None:
    """Mark the current span as failed, with the status of an answer or the type of an exception."""
    span = trace.get_current_span()  # without an exporter this does nothing
    span.set_attribute("error.type", error)
    span.set_status(trace.StatusCode.ERROR)


def set_span_scheme(scheme: str) -> None:
    """Set the scheme of the current span, of a request that a proxy has received by another one than this process."""
    trace.get_current_span().set_attribute("url.scheme", scheme)  # without an exporter this does nothing
