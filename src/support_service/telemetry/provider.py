"""The meter provider of one app and what is behind it: a scrape, an OTLP backend, the console, several or none.

Instruments are recorded through the OTel API, so that nobody who records knows which. The standard variables
`OTEL_EXPORTER_OTLP_*` and `OTEL_METRIC_EXPORT_*` are read by the exporters themselves.
"""

import asyncio
import gzip
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import uuid4

from opentelemetry.metrics import Histogram, Meter
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
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
from support_service.telemetry import environment_hidden
from support_service.telemetry.instruments import NOTHING

COMPRESS_FROM = 1024  # bytes
STOP_WITHIN = 1.5  # seconds for the last export


class ZeroedHistogram(ExplicitBucketHistogramAggregation):
    """A histogram whose series can stand at 0 before anything was measured: a first value of NOTHING makes one.

    The API has no call for that, and a series that appears with its first value is invisible to `rate` at the very
    moment that matters. `_create_aggregation` is the SDK's own seam, and the SDK is pinned to a release.
    """

    def _create_aggregation(self, *args, **kwargs):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN003, ANN202
        aggregation = super()._create_aggregation(*args, **kwargs)

        def first(measurement, should_sample_exemplar=True):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, FBT002
            del aggregation.aggregate  # the class's own method serves from here on: no cost for later measurements
            if measurement.value is not NOTHING:
                aggregation.aggregate(measurement, should_sample_exemplar)

        aggregation.aggregate = first  # type: ignore[method-assign]
        return aggregation


@dataclass(frozen=True, slots=True)
class Wanted:
    """The form in which a scraper takes its answer."""

    content_type: str
    gzip: bool
    encode: Callable[[CollectorRegistry], bytes] = field(compare=False)  # of the content type


@dataclass(frozen=True, slots=True)
class Exposition:
    """One scrape's answer."""

    body: bytes
    content_type: str
    content_encoding: str | None


class Metrics:
    """A MeterProvider with a registry of its own, so that two apps in one process never see each other's series."""

    def __init__(self, exporters: Collection[str], resource: Resource) -> None:
        self._registry = CollectorRegistry()
        self._renderer = ThreadPoolExecutor(1, thread_name_prefix="scrape")
        self._turn = asyncio.Lock()
        self._queued: dict[Wanted, asyncio.Task[Exposition]] = {}
        self._provider = MeterProvider(
            metric_readers=[reader(self._registry) for name, reader in READERS.items() if name in exporters],
            resource=resource,
            exemplar_filter=AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
            views=[View(instrument_type=Histogram, aggregation=ZeroedHistogram(record_min_max=False))],
        )
        self.meter: Meter = self._provider.get_meter("support_service", __version__)

    async def answer(self, accept: str, accept_encoding: str) -> Exposition:
        """A scrape off the event loop, one at a time: two threads that render would hold the loop up twice as long.

        Scrapes that wait for their turn share one, so that many at once, or clients that left, hold up nobody.
        """
        wanted = negotiated(accept, accept_encoding)
        queued = self._queued.get(wanted)
        if queued is None:
            queued = self._queued[wanted] = asyncio.create_task(self._in_turn(wanted))
        return await asyncio.shield(queued)

    def scrape(self, accept: str, accept_encoding: str) -> Exposition:
        """Render every series, in the format and encoding that the scraper prefers; takes milliseconds."""
        return self._render(negotiated(accept, accept_encoding))

    async def _in_turn(self, wanted: Wanted) -> Exposition:
        async with self._turn:
            del self._queued[wanted]  # who comes from now on is to see what happens from now on
            return await asyncio.get_running_loop().run_in_executor(self._renderer, self._render, wanted)

    def _render(self, wanted: Wanted) -> Exposition:
        body = wanted.encode(self._registry)
        if wanted.gzip and len(body) >= COMPRESS_FROM:
            return Exposition(gzip.compress(body, compresslevel=1), wanted.content_type, "gzip")
        return Exposition(body, wanted.content_type, None)

    def close(self) -> None:
        """Export a last time and stop the readers, within STOP_WITHIN; blocks, so call it in a thread."""
        self._renderer.shutdown()
        within(STOP_WITHIN, self._provider.shutdown)


def _prometheus(registry: CollectorRegistry) -> MetricReader:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader

    # No scope labels and no target_info: a scraped series carries the labels of its row and no others.
    return PrometheusMetricReader(registry=registry, scope_info_enabled=False, disable_target_info=True)


def _otlp(_: CollectorRegistry) -> MetricReader:
    with environment_hidden():
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    return PeriodicExportingMetricReader(OTLPMetricExporter())


def _console(_: CollectorRegistry) -> MetricReader:
    return PeriodicExportingMetricReader(ConsoleMetricExporter())


# By the names of OTEL_METRICS_EXPORTER. Each imports what it needs: the OTLP exporter's Protobuf alone takes 0.1 s.
READERS: dict[str, Callable[[CollectorRegistry], MetricReader]] = {
    "prometheus": _prometheus,
    "otlp": _otlp,
    "console": _console,
}


def negotiated(accept: str, accept_encoding: str) -> Wanted:
    """The form that a scraper's headers ask for, or Prometheus's text format where they can't be read."""
    try:
        encode, content_type = choose_encoder(accept)
    except Exception:  # noqa: BLE001 - it reads a client's header, and gives up on some in its own ways
        encode, content_type = choose_encoder("")
    return Wanted(content_type, takes_gzip(accept_encoding), encode)


def takes_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header lets an answer be compressed with gzip; a coding at q=0 is refused."""
    weights: dict[str, float] = {}
    for part in accept_encoding.split(","):
        coding, *parameters = (word.strip().lower() for word in part.split(";"))
        weight = next((text for text in parameters if text.startswith("q=")), "q=1")
        try:
            weights[coding] = float(weight[2:])
        except ValueError:
            weights[coding] = 0.0
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


def reporter() -> Resource:
    """Who reports: the SDK, name, version and instance of the service, and what OTEL_RESOURCE_ATTRIBUTES says."""
    own = {SERVICE_NAME: "support-service", SERVICE_VERSION: __version__, SERVICE_INSTANCE_ID: str(uuid4())}
    return Resource.create(own).merge(OTELResourceDetector().detect())


def within(seconds: float, work) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Do the work in a thread that nobody waits for longer than this: a backend out of reach must not hold the stop."""
    thread = threading.Thread(target=work, name="telemetry-stop", daemon=True)
    thread.start()
    thread.join(seconds)
