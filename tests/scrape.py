"""The metrics of an app as Prometheus reads them: out of the rendered exposition."""

from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from support_service.web import keys

Labels = dict[str, str]


def parse(text: str) -> list[tuple[str, Labels, float]]:
    """Every sample of an exposition: its name, its labels, its value."""
    return [
        (sample.name, dict(sample.labels), float(sample.value))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


class Scrape:
    """Reads an app's metrics anew with every question."""

    def __init__(self, app: web.Application) -> None:
        self._metrics = app[keys.METRICS]

    def samples(self) -> list[tuple[str, Labels, float]]:
        """Every sample there is."""
        return parse(self._metrics.scrape("", "").body.decode())

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the one series with exactly these labels; None where there is no such series."""
        found = [value for sample, given, value in self.samples() if sample == name and given == labels]
        assert len(found) <= 1, f"{name}{labels} is exposed {len(found)} times"
        return found[0] if found else None

    def series(self, name: str) -> list[Labels]:
        """The label sets that a name has."""
        return [labels for sample, labels, _ in self.samples() if sample == name]

    def counted(self, name: str) -> list[Labels]:
        """The label sets of a name that do not stand at 0."""
        return [labels for sample, labels, value in self.samples() if sample == name and value]

    def total(self, name: str) -> float:
        """The sum over every series of a name."""
        return sum(value for sample, _, value in self.samples() if sample == name)

    def moved(self, name: str) -> dict[str, float]:
        """The series of a name with one label that do not stand at 0, by that label's value."""
        return {
            next(iter(labels.values())): value for sample, labels, value in self.samples() if sample == name and value
        }
