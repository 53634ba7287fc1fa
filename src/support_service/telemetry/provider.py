"""The meter provider of one app, and its scrape: instruments are recorded through the OTel API, this is behind it."""

import gzip
from dataclasses import dataclass

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Histogram, Meter
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from support_service import __version__
from support_service.telemetry.instruments import NOTHING

COMPRESS_FROM = 1024


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
class Exposition:
    """One scrape's answer."""

    body: bytes
    content_type: str
    content_encoding: str | None


class Metrics:
    """A MeterProvider with a registry of its own, so that two apps in one process never see each other's series."""

    def __init__(self, service_name: str, *, exporter: str = "prometheus") -> None:
        self._registry = CollectorRegistry()
        readers: list[MetricReader] = []
        if exporter == "prometheus":
            # No scope labels and no target_info: a scraped series carries the labels of its row and no others.
            readers.append(
                PrometheusMetricReader(registry=self._registry, scope_info_enabled=False, disable_target_info=True)
            )
        self._provider = MeterProvider(
            metric_readers=readers,
            resource=Resource.create({SERVICE_NAME: service_name, SERVICE_VERSION: __version__}),
            exemplar_filter=AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
            views=[View(instrument_type=Histogram, aggregation=ZeroedHistogram(record_min_max=False))],
        )
        self.meter: Meter = self._provider.get_meter("support_service", __version__)

    def scrape(self, accept: str, accept_encoding: str) -> Exposition:
        """Render every series. It takes milliseconds for thousands of them: call it in a thread."""
        encode, content_type = choose_encoder(accept)
        body = encode(self._registry)
        if "gzip" in accept_encoding and len(body) >= COMPRESS_FROM:
            return Exposition(gzip.compress(body, compresslevel=1), content_type, "gzip")
        return Exposition(body, content_type, None)

    def close(self) -> None:
        """Stop the readers; instruments may still be recorded, to no effect."""
        self._provider.shutdown()
