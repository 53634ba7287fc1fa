"""Expressions that a replica can't evaluate are refused when they are built; rankings return elements."""

import pytest

from support_service.oncall.expressions import Expression
from support_service.oncall.figures import Figures
from tests.support.each import each_row


def evaluated(text, **values):
    """Return the values of an expression on series of the metric `up`, by their label `of`."""
    figures = Figures()
    figures.advance(0.0)
    figures.add(0.0, "up", [({"of": name}, float(value)) for name, value in values.items()])
    return {sample.labels.get("of", ""): sample.value for sample in Expression(text)(figures, 0.0)}


@each_row("text", ["1 < 2", "1 or 2", "2 < up", "1 and up", "up unless 1", "-(1 + 1) == 2", "sum(up) > 1 or (2 - 1)"])
def test_a_number_is_refused_where_a_vector_is_needed(text):
    """At the start of the service, and not while it judges. Numbers are calculated alone, and beside a vector."""
    assert (evaluated("2 * 3 - 10 / 4"), evaluated("-(1 + 1)")) == ({"": 3.5}, {"": -2.0})
    assert evaluated("10 - up > 2 * 3", a=3, b=5) == {"a": 7.0}
    with pytest.raises(ValueError, match="where a vector is needed"):
        Expression(text)


def test_growth_has_a_value_from_the_second_sample_on():
    """Other functions of a range have one from the first sample on."""
    figures, found = Figures(), []
    for at in (0.0, 15.0):
        figures.advance(at)
        figures.add(at, "calls", [({}, at)])
        texts = ("increase(calls[15s])", "rate(calls[15s])", "max_over_time(calls[15s])")
        found.append([[sample.value for sample in Expression(text)(figures, at)] for text in texts])
    assert found == [[[], [], [0.0]], [[15.0], [1.0], [15.0]]]
