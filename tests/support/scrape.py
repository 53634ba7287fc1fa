"""The metrics of a service as Prometheus reads them: the samples of a service or of a rendered scrape."""

from copy import copy

from opentelemetry.exporter.prometheus._mapping import sanitize_full_name
from opentelemetry.metrics import CallbackOptions
from opentelemetry.sdk.metrics.export import MetricsData
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from support_service.platform.telemetry.instruments import BUILD_INFO
from support_service.platform.telemetry.provider import Metrics

Labels = dict[str, str]


def parse(text: str) -> list[tuple[str, Labels, float]]:
    """Return every sample of an exposition but `target_info`: name, labels and value."""
    return [
        (sample.name, dict(sample.labels), float(sample.value))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name != "target_info"
    ]


class Scrape:
    """Reads the metrics of a service; each method collects them again."""

    def __init__(self, metrics: Metrics) -> None:
        (self._collector,) = metrics.registry._collector_to_names
        self._reader = self._collector._callback.__self__

    def samples(self, *names: str) -> list[tuple[str, Labels, float]]:
        """Return the samples with these names, or all of them. Rendering and parsing them would take longer."""
        return self._samples(self._collect(names), names)

    def _collect(self, names: tuple[str, ...] = ()) -> MetricsData:
        """Return the metrics of these names, or all of them, which takes ten times as long."""
        collect = self._reader._collect  # the queue of the collector may be that of a scrape in progress
        if not names:
            return collect(self._reader)
        consumer = copy(collect.__self__)
        observed = {each.name: each for each in consumer._async_instruments}
        list(observed[BUILD_INFO.name].callback(CallbackOptions()))  # passes on all measurements
        storage = copy(consumer._reader_storages[self._reader])
        known = tuple(storage._instrument_view_instrument_matches.items())
        storage._instrument_view_instrument_matches = {each: of for each, of in known if _is_in(names, each.name)}
        consumer._reader_storages = {self._reader: storage}
        consumer._async_instruments = [each for name, each in observed.items() if _is_in(names, name)]
        return consumer.collect(self._reader) or MetricsData([])

    def _samples(self, collected: MetricsData, names: tuple[str, ...]) -> list[tuple[str, Labels, float]]:
        families: dict[str, Metric] = {}
        for resource in collected.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if not names or _is_in(names, metric.name):  # to translate all of them takes 10 ms
                        self._collector._translate_metric(metric, {}, {}, families)
        return [
            (sample.name, dict(sorted(sample.labels.items())), float(sample.value))
            for family in families.values()
            for sample in family.samples
            if not names or sample.name in names
        ]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of the series with exactly these labels, or None if there is none."""
        found = [value for _, given, value in self.samples(name) if given == labels]
        assert len(found) <= 1, f"{name}{labels} is exposed {len(found)} times"
        return found[0] if found else None

    def label_sets(self, name: str) -> list[Labels]:
        return [labels for _, labels, _ in self.samples(name)]

    def nonzero_labels(self, name: str) -> list[Labels]:
        """Return the label sets of a name whose value is not 0."""
        return [labels for _, labels, value in self.samples(name) if value]

    def total(self, name: str) -> float:
        return sum(value for _, _, value in self.samples(name))

    def nonzero(self, name: str) -> dict[str, float]:
        """Return the values of a name that are not 0, by the value of its only label."""
        return {next(iter(labels.values())): value for _, labels, value in self.samples(name) if value}


class Changes(Scrape):
    """Reads by how much all metrics, or the named ones, have grown since this object was made.

    Other tests share the service.
    """

    def __init__(self, metrics: Metrics, *names: str) -> None:
        super().__init__(metrics)
        self._before = self._collect(names)

    def samples(self, *names: str) -> list[tuple[str, Labels, float]]:
        """Return the growth of the samples with these names, or of all of them."""
        before = {_series(name, labels): value for name, labels, value in self._samples(self._before, names)}
        return [
            (name, labels, value - before.get(_series(name, labels), 0))
            for name, labels, value in super().samples(*names)
        ]


def _is_in(names: tuple[str, ...], metric: str) -> bool:
    return any(name.startswith(sanitize_full_name(metric)) for name in names)


def _series(name: str, labels: Labels) -> tuple[object, ...]:
    """Identify a series, which gets an empty label for each label that only another series of its metric has."""
    return name, *(label for label in labels.items() if label[1])
