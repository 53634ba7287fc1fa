"""How the SDK aggregates the instruments: batches of measurements, points of unchanged series, and no exemplars."""

from bisect import bisect_left
from typing import Any

from opentelemetry.metrics import Counter, Histogram, ObservableCounter, ObservableGauge, ObservableUpDownCounter
from opentelemetry.sdk.metrics import Exemplar, ExemplarReservoir
from opentelemetry.sdk.metrics._internal.aggregation import _ExplicitBucketHistogramAggregation
from opentelemetry.sdk.metrics._internal.measurement import Measurement
from opentelemetry.sdk.metrics.export import AggregationTemporality, HistogramDataPoint
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.util.types import Attributes

from support_service.platform.telemetry.instruments import HistogramBatch


def metric_views(*, exemplars: bool) -> list[View]:
    """Return the views of all instruments.

    With `exemplars`, samples that the filter of the provider selects are kept.
    """
    histogram = BatchHistogram(record_min_max=False)
    if exemplars:
        return [View(instrument_type=Histogram, aggregation=histogram)]
    others = (Counter, ObservableCounter, ObservableGauge, ObservableUpDownCounter)
    return [
        View(instrument_type=Histogram, aggregation=histogram, exemplar_reservoir_factory=_without_exemplars),
        *(View(instrument_type=each, exemplar_reservoir_factory=_without_exemplars) for each in others),
    ]


class BatchHistogram(ExplicitBucketHistogramAggregation):
    """A histogram that counts each value of a HistogramBatch.

    `_create_aggregation` is the SDK's internal extension point. The SDK is pinned to one release.
    """

    def _create_aggregation(self, instrument, attributes, reservoir_factory, start):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return _BatchAggregation(
            attributes,
            AggregationTemporality.DELTA,  # of what a synchronous instrument records
            start,
            reservoir_factory(_BatchAggregation),
            instrument._advisory.explicit_bucket_boundaries,  # noqa: SLF001 - see above
            record_min_max=False,
        )


class _BatchAggregation(_ExplicitBucketHistogramAggregation):
    """One series of a histogram. A batch without values creates it.

    The API has no call for several values, nor for a series without a value. Without a zero at its
    start, `rate` misses the first value of a series, because the series only appears with that value.
    """

    _value: Any  # the counts since the last collection; None without a measurement
    _sum: Any
    _last: Any = None  # the last point

    def aggregate(self, measurement: Measurement, should_sample_exemplar: bool = True) -> None:  # noqa: FBT001, FBT002
        if not isinstance(measurement.value, HistogramBatch):
            super().aggregate(measurement, should_sample_exemplar)
            return
        with self._lock:
            if self._value is None:
                self._value = self._get_empty_bucket_counts()
            for value in measurement.value.values:
                self._value[bisect_left(self._boundaries, value)] += 1
                self._sum += value

    def collect(self, temporality: AggregationTemporality, at: int) -> Any:
        """Return the point of the series. Most series have not changed since the last collection."""
        is_changed = self._value is not None
        if is_changed or self._last is None or temporality is not AggregationTemporality.CUMULATIVE:
            self._last = super().collect(temporality, at)
            return self._last
        # The SDK takes ten times as long to make the same point again.
        same = HistogramDataPoint.__new__(HistogramDataPoint)
        same.__dict__.update(self._last.__dict__, time_unix_nano=at, exemplars=[])
        return same


class _NoExemplars(ExemplarReservoir):
    """A reservoir that keeps nothing. The SDK's takes a third of a collection, also if it is empty."""

    def offer(self, *_: Any) -> None:
        """Discard a measurement."""

    def collect(self, point_attributes: Attributes) -> list[Exemplar]:  # noqa: ARG002 - the interface has it
        return []


_NO_EXEMPLARS = _NoExemplars()


def _without_exemplars(_aggregation: type) -> Any:
    return lambda **_: _NO_EXEMPLARS
