"""A run of the benchmark says which budgets it misses."""

import pytest
from benchmarks import report, scenarios
from benchmarks.load_generator import Sample
from benchmarks.measure import Round


def taking(ms: float) -> Sample:
    return Sample(started=1, seconds=1, cpu_seconds=ms / 1000)


@pytest.mark.parametrize(
    ("name", "database", "servers", "missed"),
    [
        ("get", "sqlite", {"service": 2.7, "baseline": 1, "floor": 1.4, "peer": 33}, []),
        ("get", "sqlite", {"service": 2.9, "baseline": 1, "floor": 1.4, "peer": 33}, ["bare", "floor", "peer"]),
        ("get", "postgresql", {"service": 2.7, "baseline": 1, "floor": 1.4, "peer": 11}, []),
        ("timeline_cached", "sqlite", {"service": 6, "baseline": 1, "floor": 4, "peer": 80}, ["bare"]),
        ("timeline_cached", "postgresql", {"service": 6, "baseline": 1, "floor": 4, "peer": 80}, []),
        ("metrics", "sqlite", {"service": 1.6, "baseline": 0.1, "floor": 0.1, "peer": 2}, ["ms"]),
    ],
)
def test_missed_budgets_are_named(name, database, servers, missed):
    """Each budget is judged by itself; they differ by scenario and by database."""
    figures = report.figures([Round(**{server: taking(ms) for server, ms in servers.items()})])
    assert report.missed(figures, scenarios.ALL[name].budgets(database)) == missed


def test_ratios_are_medians_of_the_rounds():
    """A round that another program disturbs does not count."""
    rounds = [Round(*(taking(ms) for ms in (service, 1, 2, 8))) for service in (2, 2, 90)]
    figures = report.figures(rounds)
    assert (figures["ratio"], figures["floor_ratio"], figures["peer_ratio"]) == (2, 1, 4)
