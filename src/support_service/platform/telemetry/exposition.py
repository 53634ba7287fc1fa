"""Scrapes: the exporter converts the series of a metric once, and later scrapes only replace their values.

The exporter and the encoder spend most of their time on names and labels, which stay the same. So the text of each
metric is kept. A metric passes through the exporter again when it has other series than before.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from typing import Any, TypeAlias

from cachetools import LRUCache
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import Gauge, Histogram, Metric, MetricsData, Sum
from prometheus_client import CollectorRegistry
from prometheus_client.utils import floatToGoString

MAX_FORMATS = 2  # whose texts are kept; clients choose the version in a content type
FIRST_LINE = "# HELP "  # of a metric
LAST_LINE = "# EOF\n"  # of OpenMetrics

Encode: TypeAlias = Callable[[CollectorRegistry], bytes]
Reading: TypeAlias = Any  # the value of a series; of a histogram the counts of its buckets and the sum

format_value = lru_cache(4096)(floatToGoString)  # most values are small numbers


class ScrapeReader(PrometheusMetricReader):
    """The exporter for Prometheus, with the texts of the metrics that it has converted."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # No scope labels: a scraped series has only the labels of its row in the table.
        super().__init__(registry=registry, scope_info_enabled=False)
        self._scraped_registry = registry
        self._lock = threading.Lock()
        self._texts: LRUCache[str, dict[str, MetricText]] = LRUCache(MAX_FORMATS)  # by content type and metric
        self._known: dict[str, MetricText] | None = None  # the texts of the scrape in progress
        self._collected: list[Metric] = []

    def render(self, content_type: str, encode: Encode) -> bytes:
        """Return the exposition that `encode` makes of the registry. It is the same function for each content type."""
        with self._lock:
            known = self._known = self._texts.setdefault(content_type, {})
            self._collected = []
            try:
                converted = encode(self._scraped_registry).decode()
            finally:
                self._known = None
            body = converted.removesuffix(LAST_LINE)
            new = (metric for metric in self._collected if metric.name not in known)
            converted_texts = [f"{FIRST_LINE}{text}" for text in f"\n{body}".split(f"\n{FIRST_LINE}")[1:]]
            info = [converted_texts.pop(0).removesuffix("\n") + "\n"] if converted_texts else []
            for metric, text in zip(new, converted_texts, strict=True):
                known[metric.name] = MetricText(metric, text)
            texts = [known[metric.name].with_values_of(metric) for metric in self._collected]
            return "".join([*info, *texts, converted[len(body) :]]).encode()

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **options: Any) -> None:
        """Pass metrics to the exporter; during a scrape, only metrics without a text or with other series."""
        known = self._known
        if known is not None:
            scopes = [scope for resource in metrics_data.resource_metrics for scope in resource.scope_metrics]
            self._collected = [metric for scope in scopes for metric in scope.metrics]
            for metric in self._collected:
                if metric.name in known and not known[metric.name].has_series_of(metric):
                    del known[metric.name]
            (resource,) = metrics_data.resource_metrics
            new = [metric for metric in self._collected if metric.name not in known]
            metrics_data = MetricsData([replace(resource, scope_metrics=[replace(scopes[0], metrics=new)])])
        super()._receive_metrics(metrics_data, timeout_millis, **options)


class MetricText:
    """The text of a metric, in one part for each series; a part is made again when the values of the series change."""

    def __init__(self, metric: Metric, text: str) -> None:
        self._attributes = [point.attributes for point in metric.data.data_points]
        self._readings: list[Reading] = [None] * len(self._attributes)
        lines = text.removesuffix("\n").split("\n")
        # The exporter adds no timestamps, so that the value stands behind the last space.
        names = [line.rpartition(" ")[0].replace("%", "%%") for line in lines if not line.startswith("#")]
        comments = [line.replace("%", "%%") + "\n" for line in lines if line.startswith("#")]
        size = len(names) // len(self._attributes)
        self._templates = [
            "".join(f"{name} %s\n" for name in names[first : first + size]) for first in range(0, len(names), size)
        ]
        self._templates[0] = "".join(comments) + self._templates[0]
        self._parts = [""] * len(self._templates)
        self._text = ""

    def has_series_of(self, metric: Metric) -> bool:
        # The SDK keeps one dictionary for each series, and the comparison begins with the identity.
        return self._attributes == [point.attributes for point in metric.data.data_points]

    def with_values_of(self, metric: Metric) -> str:
        readings = _readings(metric)
        if readings != self._readings:
            for place, (reading, last) in enumerate(zip(readings, self._readings, strict=True)):
                if reading != last:
                    self._parts[place] = self._templates[place] % _sample_values(reading)
            self._readings = readings
            self._text = "".join(self._parts)
        return self._text


def _readings(metric: Metric) -> list[Reading]:
    if isinstance(metric.data, Sum | Gauge):
        return [point.value for point in metric.data.data_points]
    assert isinstance(metric.data, Histogram)  # noqa: S101 - no view has another aggregation
    return [(point.bucket_counts, point.sum) for point in metric.data.data_points]


def _sample_values(reading: Reading) -> tuple[str, ...]:
    """Return the values of the lines of a series, as the exporter orders them: buckets, count, sum."""
    if not isinstance(reading, tuple):
        return (format_value(reading),)
    counts, total = reading
    cumulative = list(accumulate(counts))
    return tuple(map(format_value, [*cumulative, cumulative[-1], total]))
