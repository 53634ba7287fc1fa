"""The judgement of a soak: a leak is found, and what only varies is not."""

import math
import random
import re
from collections import Counter
from xml.etree import ElementTree as ET

import pytest

from tests.support.each import each_row
from tests.support.promql import ROOT
from tests.support.soak.chart import draw
from tests.support.soak.figures import FIGURES, HOUR, Sample, unsteady
from tests.support.soak.work import LEAST_KEPT, MOST_TURNED_AWAY, errors_of_work, value_at

MEMORY, TASKS = (next(each for each in FIGURES if each.name == name) for name in ("Resident memory", "asyncio tasks"))


def measure(value, hours=2.0, number=200):
    """Samples of a function of the hours."""
    return [Sample(each * hours * HOUR / number, value(each * hours / number)) for each in range(number + 1)]


def noise(hours):
    """Return what varies with the load, the same each time."""
    return 15 * math.sin(40 * hours) + random.Random(hours).uniform(-10, 10)


@each_row(
    ("value", "is_steady"),
    [
        (lambda hours: 200 + noise(hours), True),
        (lambda hours: 200 - 30 * hours, True),
        (lambda hours: 200 * (1 - math.exp(-20 * hours)) + noise(hours), True),
        (lambda hours: 200 + noise(hours) + 5 * hours, True),
        (lambda hours: 200 + noise(hours) + 10 * hours, False),
        (lambda hours: 200 + noise(hours) + 40 * hours**2, False),
        (lambda hours: 200 + (120 if hours > 1.2 else 0), False),
    ],
    ids=["noise", "shrinks", "fills a cache first", "within the bound", "leak", "leak that grows", "step"],
)
def test_growth_is_told_from_noise(value, is_steady):
    """Two hours of memory."""
    assert MEMORY.judge(measure(value)).is_steady == is_steady


def test_leak_of_a_task_for_each_minute_is_found_in_two_hours():
    """The report names the figure with its growth, its bound and its slope."""
    verdict = TASKS.judge(measure(lambda hours: 90 + 60 * hours))
    assert unsteady([verdict]) == ["asyncio tasks: +90.0, at most +46.0 (+60.0 an hour)"]


def test_few_samples_are_told_apart_and_too_few_are_an_error():
    """Between two samples the work is done evenly. The first of four samples is in the warm-up."""
    samples = [Sample(0.0, 0.0), Sample(10.0, 100.0), Sample(40.0, 160.0)]
    assert [value_at(samples, at) for at in (0.0, 5.0, 10.0, 25.0, 40.0)] == [0.0, 50.0, 100.0, 130.0, 160.0]
    assert MEMORY.judge(measure(lambda _: 100.0, number=3)).is_steady
    with pytest.raises(ValueError, match="2 of 3 samples are after the warm-up, not 3"):
        MEMORY.judge(measure(lambda _: 100.0, number=2))


@each_row(
    ("done", "wrong"),
    [
        (lambda hours: 1000 * hours, []),
        (lambda hours: 1000 * min(hours, 1.5) + 600 * max(0, hours - 1.5), []),
        (lambda hours: 1000 * min(hours, 1.5) + 400 * max(0, hours - 1.5), ["cases: 200 in the last quarter"]),
        (lambda hours: 1000 * min(hours, 0.02), ["cases: 0 in the last quarter, and 0 in the second one"]),
        (lambda hours: 1000 * max(0, hours - 1.5), ["cases: 500 in the last quarter, and 0 in the second one"]),
    ],
    ids=["steady", "slower within the bound", "too slow", "stands after a minute", "stands at first"],
)
def test_work_that_slows_down_is_found(done, wrong):
    """Two hours of cases."""
    found = [*errors_of_work({"cases": measure(done), "streams": measure(lambda hours: hours)}, Counter(requests=9))]
    assert [line[: len(each)] for line, each in zip(found, wrong, strict=True)] == wrong


def test_requests_that_are_turned_away_are_bounded():
    """Of a hundred requests."""
    for turned_away, is_too_much in ((0, False), (3, False), (4, True), (400, True)):
        counts = Counter({"requests": 90 - turned_away, "streams": 6, "ended downloads": 4, "turned away": turned_away})
        assert bool([*errors_of_work({}, counts)]) == is_too_much, turned_away


def test_chart_shows_each_figure_with_its_line():
    """It is well-formed, and marks the growth after the warm-up."""
    samples = measure(lambda hours: 100 + 10 * hours)
    verdicts = [figure.judge(samples) for figure in FIGURES]
    chart = ET.fromstring(draw("SQLite <5 minutes>", [(verdict, samples) for verdict in verdicts]))
    texts = [each.text for each in chart.iter() if each.text]
    assert [str(verdict) for verdict in verdicts] == [text for text in texts if text in set(map(str, verdicts))]
    lines = [each.attrib for each in chart.iter() if each.attrib.get("class") == "slope"]
    assert len(lines) == len(FIGURES)
    assert all(float(line["y2"]) < float(line["y1"]) for line in lines)


def test_documentation_states_the_bounds():
    """Each figure with its unit, and how much work must be done."""
    page = (ROOT / "docs" / "operations" / "soak.md").read_text().partition("## Charts")[0]
    rows = re.findall(r"^\| ([^|]+) \| (\d+)([^|]*) \| (\d+)([^|]*) \|$", page, re.MULTILINE)
    assert [(name, float(vary), unit.strip(), float(grow)) for name, vary, unit, grow, _ in rows] == [
        (each.name, each.may_vary, each.unit, each.may_grow) for each in FIGURES
    ]
    assert f"at most {MOST_TURNED_AWAY:.0%} of the requests" in page
    assert LEAST_KEPT == 0.5
    assert "at least half as many" in page
