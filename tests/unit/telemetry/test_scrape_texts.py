"""Scrapes keep the texts of metrics: each is byte for byte what the exporter makes of all values."""

from types import SimpleNamespace

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry

from support_service.platform.telemetry.exposition import MAX_FORMATS, ScrapeReader
from support_service.platform.telemetry.provider import negotiate_format

ACCEPTED = (
    "",
    "text/plain;version=1.0.0;escaping=allow-utf-8",
    "application/openmetrics-text;version=1.0.0",
    "application/openmetrics-text;version=0.0.1",
)
ODD_LABELS = ("100 %", "a b", 'say "hi"', "a\\b", "two\nlines", "\n# HELP a b", "phí vận chuyển", "\u2028", "# EOF", "")


class Meters:
    """A meter, the reader under test, and the exporter as it is; both read the meter."""

    def __init__(self):
        self._expected = CollectorRegistry()
        exporter = PrometheusMetricReader(registry=self._expected, scope_info_enabled=False)
        self.registry = CollectorRegistry()
        self.reader = ScrapeReader(self.registry)
        self._provider = MeterProvider(metric_readers=[exporter, self.reader], shutdown_on_exit=False)
        self.meter = self._provider.get_meter("a")
        self.converted = []  # the metrics that passed through the exporter under test

    def scrape(self, accept=""):
        wanted = negotiate_format(accept, "")

        def encode(registry):
            families = [*registry.collect()]
            self.converted += [family.name for family in families if family.name != "target"]
            return wanted.encode(SimpleNamespace(collect=lambda: families))

        text = self.reader.render(wanted.content_type, encode)
        assert text == wanted.encode(self._expected)
        return text.decode()

    def close(self):
        self._provider.shutdown()


@pytest.fixture
def meters():
    meters = Meters()
    yield meters
    meters.close()


@pytest.mark.parametrize("accept", ACCEPTED)
def test_scrape_is_that_of_the_exporter(meters, accept):
    """While values change, series appear and disappear, and with every kind of value and label."""
    meter, seen = meters.meter, []
    assert meters.scrape(accept) in ("", "# EOF\n")
    counter = meter.create_counter("a.counter", unit="{request}", description='One "%" \\ and\nanother line')
    histogram = meter.create_histogram("a.histogram", unit="s", explicit_bucket_boundaries_advisory=[0.005, 1, 1e7])
    meter.create_observable_gauge("a.gauge", [lambda _: seen], unit="By")
    meter.create_observable_up_down_counter("a.sum", [lambda _: seen[:1]], description="100 %s")
    for number, label in enumerate(ODD_LABELS):
        counter.add(10.0**number, {"label": label})
        histogram.record(number / 3, {"label": label})
        histogram.record(10.0**number, {"label": "a", "number": number} if number % 3 else {"label": "a"})
        seen[:] = [Observation(-number / 7, {"label": each}) for each in ODD_LABELS[number % 4 : number]]
        text = meters.scrape(accept)
        assert meters.scrape(accept) == text
    counter.add(1, {"other label": "b"})
    histogram.record(0, {"label": "a"})
    seen[:] = [Observation(1e300), Observation(12345678, {"label": "b"})]
    assert 'other_label="b"' in meters.scrape(accept)


def test_exporter_converts_a_metric_only_when_its_series_change(meters):
    """Later scrapes replace the values. Other readers of the registry get every metric."""
    meter = meters.meter
    counter, histogram = meter.create_counter("a.counter"), meter.create_histogram("a.histogram")
    counter.add(1, {"label": "a"})
    histogram.record(1)
    meters.scrape()
    assert meters.converted == ["a_counter", "a_histogram"]
    meters.converted.clear()
    counter.add(41, {"label": "a"})
    histogram.record(1000)
    text = meters.scrape()
    assert meters.converted == []
    assert 'a_counter_total{label="a"} 42.0\n' in text
    assert "a_histogram_sum 1001.0\n" in text
    counter.add(1, {"label": "b"})
    meters.scrape()
    assert meters.converted == ["a_counter"]
    assert {"a_counter", "a_histogram"} <= {family.name for family in meters.registry.collect()}


def test_texts_are_kept_for_a_bounded_number_of_formats(meters):
    """Clients choose the version in a content type."""
    counter = meters.meter.create_counter("a.counter")
    accepted = [f"application/openmetrics-text;version=1.0.{number}" for number in range(MAX_FORMATS + 1)]
    for accept in (*accepted, accepted[-1], accepted[0]):
        counter.add(1)
        meters.scrape(accept)
    assert len(meters.converted) == MAX_FORMATS + 2  # that of the last one again, not that of the one before
