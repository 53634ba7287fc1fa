"""The judgement of a soak: a leak is found, and what only varies is not."""

import math
import random
import re
from xml.etree import ElementTree as ET

import pytest

from tests.support.promql import ROOT
from tests.support.soak.chart import draw
from tests.support.soak.figures import FIGURES, HOUR, Sample, unsteady

MEMORY, TASKS = (next(each for each in FIGURES if each.name == name) for name in ("Resident memory", "asyncio tasks"))


def measure(value, hours=2.0, number=200):
    """Samples of a function of the hours."""
    return [Sample(each * hours * HOUR / number, value(each * hours / number)) for each in range(number + 1)]


def noise(hours):
    """Return what varies with the load, the same each time."""
    return 15 * math.sin(40 * hours) + random.Random(hours).uniform(-10, 10)


@pytest.mark.parametrize(
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
    """Each figure with its unit."""
    page = (ROOT / "docs" / "operations" / "soak.md").read_text().partition("## Charts")[0]
    rows = re.findall(r"^\| ([^|]+) \| (\d+)([^|]*) \| (\d+)([^|]*) \|$", page, re.MULTILINE)
    assert [(name, float(vary), unit.strip(), float(grow)) for name, vary, unit, grow, _ in rows] == [
        (each.name, each.may_vary, each.unit, each.may_grow) for each in FIGURES
    ]
