"""What can't be evaluated costs its own judgement, and no other."""

import logging

import pytest

from support_service.oncall.expressions import Expression
from support_service.oncall.figures import Figures
from support_service.oncall.judge import AlertStates
from support_service.oncall.rules import Rules

RULE = {"part": "service", "severity": "critical", "title": ["down", "lỗi"], "unit": None, "action": None}
RULE |= {"for": "0s", "keep_firing_for": "0s"}
RULE |= {"runbook": "support-service-down.md", "dashboard": "on-call", "panel": "Support probe"}
EXPRESSIONS = {"Broken": "broken > 0", "OfRecord": "recorded > 0", "Sound": "up > 0"}
RULES = Rules(
    {
        "records": [{"record": "recorded", "expr": "sum(broken)"}, {"record": "total", "expr": "sum(up)"}],
        "alerts": [RULE | {"alert": name, "expr": text} for name, text in EXPRESSIONS.items()],
        "inhibitions": [],
    }
)


@pytest.fixture
def breaks(monkeypatch):
    """A set of whether expressions on `broken` can't be evaluated: while it has an element."""
    broken, evaluate = set(), Expression.__call__

    def call(expression, figures, at):
        if broken and expression.selectors[0].name == "broken":
            raise ZeroDivisionError("of no use")
        return evaluate(expression, figures, at)

    monkeypatch.setattr(Expression, "__call__", call)
    return broken


def evaluated(states, figures, at, *names):
    """Evaluate the rules at a time at which some metrics are 1; return the alerts that fire."""
    figures.advance(at)
    for name in names:
        figures.add(at, name, [({}, 1.0)])
    states.evaluate(figures, at)
    return {rule.name for rule, _, _, fires in states.active() if fires}


def test_other_alerts_are_judged_beside_a_broken_record_and_a_broken_condition(breaks, caplog):
    breaks.add("now")
    with caplog.at_level(logging.ERROR):
        assert evaluated(AlertStates(RULES), Figures(), 0.0, "broken", "up") == {"Sound"}
    assert [record.getMessage() for record in caplog.records] == [
        "The expression of recorded can't be evaluated",
        "The expression of Broken can't be evaluated",
    ]


def test_an_alert_fires_while_its_condition_cannot_be_evaluated(breaks):
    """It is neither resolved nor begun again; it ends once its condition is known not to hold."""
    states, figures = AlertStates(RULES), Figures()
    assert evaluated(states, figures, 0.0, "broken", "up") == {"Broken", "OfRecord", "Sound"}
    breaks.add("now")
    assert "Broken" in evaluated(states, figures, 15.0, "up")
    assert [since for rule, _, since, _ in states.active() if rule.name == "Broken"] == [0.0]
    breaks.clear()
    figures.advance(30.0)
    figures.add(30.0, "broken", [({}, 0.0)])
    assert "Broken" not in evaluated(states, figures, 30.0, "up")
