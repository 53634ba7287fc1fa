"""The meter provider of one app and its readers: Prometheus scrapes, OTLP export, console, several or none.

Code records through the OpenTelemetry API and does not depend on the readers. The exporters read the standard
variables `OTEL_EXPORTER_OTLP_*` and `OTEL_METRIC_EXPORT_*` themselves.
"""

import asyncio
import gzip
import os
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from support_service import __version__
from support_service.core.errors import UserError
from support_service.core.http import accepts_gzip
from support_service.platform.telemetry.aggregation import metric_views

if TYPE_CHECKING:
    from support_service.platform.telemetry.exposition import ScrapeReader

GZIP_MIN_BYTES = 1024  # bytes of a response body
SHUTDOWN_TIMEOUT = 1.5  # seconds for the last export
VARIABLES_READ_AT_IMPORT = ("OTEL_PROPAGATORS", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT")


@dataclass(frozen=True, slots=True)
class ScrapeFormat:
    """The response format negotiated with a scraper."""

    content_type: str
    gzip: bool
    encode: Callable[[CollectorRegistry], bytes] = field(compare=False)  # follows from the content type


@dataclass(frozen=True, slots=True)
class ScrapeResponse:
    """The response to one scrape."""

    body: bytes
    content_type: str
    content_encoding: str | None


class Metrics:
    """A MeterProvider with its own registry, so that two apps in one process never see each other's series."""

    def __init__(
        self,
        exporters: Collection[str],
        resource: Resource,
        shutdown_timeout: float = SHUTDOWN_TIMEOUT,
        *,
        traced: bool = False,
    ) -> None:
        """With `traced`, histograms that are exported over OTLP have exemplars of sampled spans."""
        self.exemplars = traced and "otlp" in exporters
        self._shutdown_timeout = shutdown_timeout
        self.registry = CollectorRegistry()
        self._renderer = ThreadPoolExecutor(1, thread_name_prefix="scrape")
        self._render_lock = asyncio.Lock()
        self._queued: dict[ScrapeFormat, asyncio.Task[ScrapeResponse]] = {}
        self._scrape_reader = _create_scrape_reader(self.registry) if "prometheus" in exporters else None
        with refusals_in_one_line():
            readers = [create() for name, create in READER_FACTORIES.items() if name in exporters]
        self._provider = MeterProvider(
            metric_readers=[*readers, self._scrape_reader] if self._scrape_reader else readers,
            resource=resource,
            exemplar_filter=TraceBasedExemplarFilter() if self.exemplars else AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
            views=metric_views(exemplars=self.exemplars),
        )
        self.meter: Meter = self._provider.get_meter("support_service", __version__)

    async def render_async(self, accept: str, accept_encoding: str) -> ScrapeResponse:
        """Render a scrape in a thread, one at a time: two rendering threads would block the event loop twice as long.

        Scrapes with the same format that wait share one rendering, so that many scrapes at once, or scrapes whose
        clients disconnected, do not delay others.
        """
        wanted = negotiate_format(accept, accept_encoding)
        queued = self._queued.get(wanted)
        if queued is None:
            queued = self._queued[wanted] = asyncio.create_task(self._render_in_turn(wanted))
        return await asyncio.shield(queued)

    def render(self, accept: str, accept_encoding: str) -> ScrapeResponse:
        """Render every series in the format and encoding that the scraper prefers. Blocks for milliseconds."""
        return self._render(negotiate_format(accept, accept_encoding))

    async def _render_in_turn(self, wanted: ScrapeFormat) -> ScrapeResponse:
        async with self._render_lock:
            del self._queued[wanted]  # later scrapes must include later measurements
            return await asyncio.get_running_loop().run_in_executor(self._renderer, self._render, wanted)

    def _render(self, wanted: ScrapeFormat) -> ScrapeResponse:
        if self._scrape_reader is None:
            body = wanted.encode(self.registry)
        else:
            body = self._scrape_reader.render(wanted.content_type, wanted.encode)
        if wanted.gzip and len(body) >= GZIP_MIN_BYTES:
            return ScrapeResponse(gzip.compress(body, compresslevel=1), wanted.content_type, "gzip")
        return ScrapeResponse(body, wanted.content_type, None)

    def close(self) -> None:
        """Export a last time and stop the readers, within `shutdown_timeout` seconds. Blocks; call it in a thread."""
        self._renderer.shutdown()
        run_with_timeout(self._shutdown_timeout, self._provider.shutdown)


def _create_scrape_reader(registry: CollectorRegistry) -> "ScrapeReader":
    from support_service.platform.telemetry.exposition import ScrapeReader

    return ScrapeReader(registry)


def _otlp_reader() -> MetricReader:
    with hide_environment():
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    return PeriodicExportingMetricReader(OTLPMetricExporter())


def _console_reader() -> MetricReader:
    return PeriodicExportingMetricReader(ConsoleMetricExporter())


# By the names of OTEL_METRICS_EXPORTER. Imports are local: the OTLP exporter's Protobuf alone takes 0.1 s to import.
READER_FACTORIES: dict[str, Callable[[], MetricReader]] = {"otlp": _otlp_reader, "console": _console_reader}


@contextmanager
def refusals_in_one_line() -> Iterator[None]:
    """Raise UserError for what OpenTelemetry refuses in the block: a value of a variable of the environment."""
    try:
        yield
    except ValueError as refusal:
        raise UserError(f"OpenTelemetry refuses a variable OTEL_…: {' '.join(str(refusal).split())}") from refusal


@contextmanager
def hide_environment() -> Iterator[None]:
    """Hide the environment variables that OpenTelemetry reads at import, for the duration of the block.

    An invalid value would end the import with a traceback. `refusals_in_one_line` reports it when the SDK is used. W3C
    trace context is propagated regardless of OTEL_PROPAGATORS.
    """
    hidden = {name: os.environ.pop(name) for name in VARIABLES_READ_AT_IMPORT if name in os.environ}  # noqa: TID251 - see above
    try:
        yield
    finally:
        os.environ.update(hidden)  # noqa: TID251


def negotiate_format(accept: str, accept_encoding: str) -> ScrapeFormat:
    """Return the format that a scraper's headers ask for; Prometheus's text format if they can't be parsed."""
    try:
        encode, content_type = choose_encoder(accept)
    except Exception:  # noqa: BLE001 - prometheus_client raises various errors for invalid client headers
        encode, content_type = choose_encoder("")
    return ScrapeFormat(content_type, accepts_gzip(accept_encoding), encode)


def build_resource(name: str = "support-service") -> Resource:
    """Return the OpenTelemetry resource: SDK, service name, version and instance, and OTEL_RESOURCE_ATTRIBUTES."""
    own = {SERVICE_NAME: name, SERVICE_VERSION: __version__, SERVICE_INSTANCE_ID: str(uuid4())}
    return Resource.create(own).merge(OTELResourceDetector().detect())


def run_with_timeout(seconds: float, work) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Run `work` in a daemon thread and wait at most `seconds` for it: an unreachable backend must not delay a stop."""
    thread = threading.Thread(target=work, name="telemetry-stop", daemon=True)
    thread.start()
    thread.join(seconds)
