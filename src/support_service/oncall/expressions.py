"""The expressions of the alerts, evaluated on the figures of this process: the part of PromQL that rules use.

The rules of Prometheus are the only declaration of what a problem is. A replica evaluates the same text on its own
series, so that no condition is written twice. The results equal the results of Prometheus, extrapolation included:
tests/unit/oncall runs promtool's tests of the rules.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from support_service.oncall.figures import NO_VALUE, Figures, Labels, Point, Series

LOOKBACK = 300.0  # seconds for which the last sample of a series is its value, as in Prometheus
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
TOKENS = re.compile(
    r"""\s*(?:(?P<duration>(?:\d+(?:ms|[smhd]))+)|(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"""
    r"""|(?P<name>[a-zA-Z_:][\w:]*)|(?P<string>"(?:[^"\\]|\\.)*")|(?P<sign>[=!]~|[=!<>]=|[-+*/<>=(){}\[\],]))"""
)


class Sample(NamedTuple):
    """One element of a vector. `limit` is what the last comparison compared its value with."""

    labels: Labels
    value: float
    limit: float | None = None


Vector = list[Sample]
Value = float | Vector
Evaluate = Callable[[Figures, float], Value]
Matcher = Callable[[Labels], bool]


class Expression:
    """An expression that can be evaluated. Raises ValueError."""

    def __init__(self, text: str) -> None:
        parser = _Parser(text)
        self._evaluate = parser.whole()
        self.selectors = parser.selectors

    def __call__(self, figures: Figures, at: float) -> Vector:
        found = self._evaluate(figures, at)
        return [Sample({}, found)] if isinstance(found, float) else found


def range_seconds(duration: str) -> float:
    """Return the seconds of a duration such as 1h30m."""
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhd])", duration))


# Operators by how tightly they bind.
LEVELS = (("or",), ("and", "unless"), ("==", "!=", "<=", ">=", "<", ">"), ("+", "-"), ("*", "/"))
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<=": lambda left, right: left <= right,
    ">=": lambda left, right: left >= right,
    "<": lambda left, right: left < right,
    ">": lambda left, right: left > right,
}
CALCULATE: dict[str, Callable[[float, float], float]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right if right else math.nan if not left else math.copysign(math.inf, left),
}


class _Parser:
    def __init__(self, text: str) -> None:
        self.selectors: list[Selector] = []
        self._tokens: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            found = TOKENS.match(text, at)
            if found is None:
                raise ValueError(f"can't read {text[at : at + 20]!r}")
            self._tokens.append((found.lastgroup or "", found[found.lastgroup or 0]))
            at = found.end()
        self._tokens.append(("end", ""))
        self._at = 0

    def whole(self) -> Evaluate:
        expression = self._operation(0)
        if self._kind != "end":
            raise ValueError(f"unexpected {self._word!r}")
        return expression

    @property
    def _kind(self) -> str:
        return self._tokens[self._at][0]

    @property
    def _word(self) -> str:
        return self._tokens[self._at][1]

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _accept(self, *words: str) -> bool:
        if self._word in words:
            self._at += 1
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            raise ValueError(f"expected {word!r} before {self._word!r}")

    def _operation(self, level: int) -> Evaluate:
        if level == len(LEVELS):
            return self._unary()
        left = self._operation(level + 1)
        while self._word in LEVELS[level]:
            operator = self._next()
            match = self._matching()
            left = _joined(operator, match, left, self._operation(level + 1))
        return left

    def _matching(self) -> "Matching":
        if self._word in ("bool", "ignoring"):
            raise ValueError(self._word)
        on = self._labels() if self._accept("on") else None
        if self._word == "group_right":
            raise ValueError(self._word)
        many = self._accept("group_left") and self._labels() is not None
        return Matching(on, many=many)

    def _labels(self) -> tuple[str, ...]:
        self._expect("(")
        names = []
        while not self._accept(")"):
            names.append(self._next())
            self._accept(",")
        return tuple(names)

    def _unary(self) -> Evaluate:
        if self._accept("-"):
            return _joined("*", Matching(None), self._unary(), Number(-1.0))
        kind, word = self._kind, self._next()
        if kind == "number":
            return Number(float(word))
        if word == "(":
            inner = self._operation(0)
            self._expect(")")
            return inner
        if word == "{" or kind != "name":
            raise ValueError(f"unexpected {word!r}")
        if word in AGGREGATIONS and self._word in ("by", "without", "("):
            return self._aggregation(word)
        if self._word == "(":
            return self._call(word)
        return self._selector(word)

    def _aggregation(self, name: str) -> Evaluate:
        by: tuple[str, ...] = ()
        given = self._accept("by")
        if given:
            by = self._labels()
        arguments = self._arguments()
        if not given and self._accept("by"):
            by = self._labels()
        if self._word == "without":
            raise ValueError("without")
        return partial(_aggregate, name, by, arguments)

    def _call(self, name: str) -> Evaluate:
        if name in RANGE_FUNCTIONS:
            self._expect("(")
            selector = self._selector(self._next())
            rest = []
            while self._accept(","):
                rest.append(self._operation(0))
            self._expect(")")
            if not isinstance(selector, Selector) or selector.seconds is None:
                raise ValueError(f"{name} needs a range")
            return partial(_over_range, RANGE_FUNCTIONS[name], selector, rest)
        if name not in FUNCTIONS:
            raise ValueError(name)
        return partial(FUNCTIONS[name], self._arguments())

    def _arguments(self) -> list[Any]:
        self._expect("(")
        found: list[Any] = []
        while not self._accept(")"):
            found.append(_text(self._next()) if self._kind == "string" else self._operation(0))
            self._accept(",")
        return found

    def _selector(self, name: str) -> "Selector":
        matchers = []
        if self._accept("{"):
            while not self._accept("}"):
                label, operator, value = self._next(), self._next(), _text(self._next())
                matchers.append(matcher(label, operator, value))
                self._accept(",")
        seconds = None
        if self._accept("["):
            seconds = range_seconds(self._next())
            self._expect("]")
        offset = range_seconds(self._next()) if self._accept("offset") else 0.0
        selector = Selector(name, tuple(matchers), seconds, offset)
        self.selectors.append(selector)
        return selector


def _text(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1])


@dataclass(slots=True)
class Number:
    """A number, or what is calculated from numbers alone."""

    value: float

    def __call__(self, _figures: Figures, _at: float) -> float:
        return self.value


@dataclass(slots=True)
class Matching:
    """Which elements of two vectors belong together: by the labels `on`, or by all."""

    on: tuple[str, ...] | None
    many: bool = False  # whether several elements of the left may belong to one of the right

    def key(self, labels: Labels) -> frozenset[tuple[str, str]]:
        """Return what elements that belong together have in common."""
        if self.on is None:
            return frozenset(labels.items())
        return frozenset((name, labels[name]) for name in self.on if name in labels)


@dataclass(slots=True)
class Selector:
    """Series of a metric, at a time or in the seconds before it."""

    name: str
    matchers: Sequence[Matcher]
    seconds: float | None
    offset: float
    _known: tuple[Figures, int, list[Series]] | None = None

    @property
    def reach(self) -> float:
        """How far back it looks, in seconds."""
        return (self.seconds or 0.0) + self.offset

    def __call__(self, figures: Figures, at: float) -> Vector:
        """Return the last value of each series."""
        at -= self.offset
        begin, end = figures.span(at - LOOKBACK, at)
        if begin == end:
            return []
        last = figures.times[end - 1]
        found = ((series.labels, series.value_at(last)) for series in self.series(figures))
        return [Sample(labels, value) for labels, value in found if value is not None]

    def series(self, figures: Figures) -> list[Series]:
        """Return the series that match. The search is repeated only after new series came."""
        all_series, known = figures.select(self.name), self._known
        if known is None or known[:2] != (figures, len(all_series)):
            matching = [series for series in all_series if all(matches(series.labels) for matches in self.matchers)]
            known = self._known = figures, len(all_series), matching
        return known[2]


def matcher(label: str, operator: str, value: str) -> Matcher:
    """Return whether labels match a condition of Prometheus or Alertmanager, such as `status`, `=~`, `5..`."""
    pattern = re.compile(value if "~" in operator else re.escape(value))
    negated = operator.startswith("!")
    return lambda labels: (pattern.fullmatch(labels.get(label, "")) is None) is negated


def _joined(operator: str, match: Matching, left: Evaluate, right: Evaluate) -> Evaluate:
    """Return an operation on two expressions. Raises ValueError for a number where the operator needs a vector."""
    if operator in CALCULATE:
        if isinstance(left, Number) and isinstance(right, Number):
            return Number(CALCULATE[operator](left.value, right.value))
    elif isinstance(left, Number) or (isinstance(right, Number) and operator not in COMPARE):
        raise ValueError(f"{operator!r} with a number where a vector is needed")
    return partial(_operate, operator, match, (left, right))


def _operate(operator: str, match: Matching, sides: tuple[Evaluate, Evaluate], figures: Figures, at: float) -> Value:
    left, right = (side(figures, at) for side in sides)
    if operator in CALCULATE:
        return _calculate(CALCULATE[operator], match, left, right)
    if operator in COMPARE:
        return _compare(COMPARE[operator], match, left, right)
    assert isinstance(left, list) and isinstance(right, list)  # noqa: S101, PT018 - see _joined
    if operator == "or":
        present = {match.key(each.labels) for each in left}
        return left + [each for each in right if match.key(each.labels) not in present]
    present = {match.key(each.labels) for each in right}
    return [each for each in left if (match.key(each.labels) in present) is (operator == "and")]


def _calculate(function: Callable[[float, float], float], match: Matching, left: Value, right: Value) -> Vector:
    if isinstance(left, float):
        assert isinstance(right, list)  # noqa: S101 - see _joined
        return [Sample(each.labels, function(left, each.value)) for each in right]
    if isinstance(right, float):
        return [Sample(each.labels, function(each.value, right)) for each in left]
    found = {match.key(each.labels): each for each in right}
    results = []
    for each in left:
        key = match.key(each.labels)
        if key in found:
            kept = each.labels if match.many or match.on is None else dict(key)
            results.append(Sample(kept, function(each.value, found[key].value)))
    return results


def _compare(function: Callable[[float, float], bool], match: Matching, left: Value, right: Value) -> Vector:
    assert isinstance(left, list)  # noqa: S101 - see _joined
    if isinstance(right, float):
        return [Sample(each.labels, each.value, right) for each in left if function(each.value, right)]
    found = {match.key(each.labels): each.value for each in right}
    return [
        Sample(each.labels, each.value, limit)
        for each in left
        if (limit := found.get(match.key(each.labels))) is not None and function(each.value, limit)
    ]


def _aggregate(name: str, by: tuple[str, ...], arguments: Sequence[Any], figures: Figures, at: float) -> Vector:
    *parameters, of = arguments
    grouped: dict[tuple[str, ...], list[Sample]] = {}
    for sample in of(figures, at):
        grouped.setdefault(tuple(sample.labels.get(label, "") for label in by), []).append(sample)
    parameter = parameters[0](figures, at) if parameters else 0.0
    function = AGGREGATIONS[name]
    return [
        Sample(
            {label: value for label, value in zip(by, key, strict=True) if value},
            function([sample.value for sample in samples], parameter),
            samples[0].limit,
        )
        for key, samples in grouped.items()
    ]


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    rank = share * (len(ordered) - 1)
    lower = math.floor(rank)
    upper = min(lower + 1, len(ordered) - 1)
    return ordered[lower] + (ordered[upper] - ordered[lower]) * (rank - lower)


AGGREGATIONS: dict[str, Callable[[list[float], Any], float]] = {
    "sum": lambda values, _: math.fsum(values),
    "min": lambda values, _: min(values),
    "max": lambda values, _: max(values),
    "avg": lambda values, _: math.fsum(values) / len(values),
    "count": lambda values, _: float(len(values)),
    "quantile": _quantile,
}


def _over_range(
    function: Callable[..., float | None], selector: Selector, rest: Sequence[Evaluate], figures: Figures, at: float
) -> Vector:
    seconds = selector.seconds or 0.0
    last = at - selector.offset
    begin, end = figures.span(last - seconds, last)
    compares_samples = function in (_increase, _rate)
    if end - begin < (2 if compares_samples else 1):  # the first evaluation takes a third of the time of others
        return []
    steady_since = figures.times[begin] if compares_samples else -math.inf
    parameters = [parameter(figures, at) for parameter in rest]
    results = []
    for series in selector.series(figures):
        if series.changed_at[-1] <= steady_since:  # most counters stand still
            if series.values[-1] != NO_VALUE:
                results.append(Sample(series.labels, 0.0))
            continue
        points = figures.points(series, last - seconds, last)
        value = function(points, last - seconds, last, *parameters) if points else None
        if value is not None:
            results.append(Sample(series.labels, value))
    return results


def _increase(points: Sequence[Point], first: float, last: float) -> float | None:
    """Return how much a counter has grown, extrapolated to the whole range as Prometheus does."""
    if len(points) < 2:  # noqa: PLR2004 - between two samples
        return None
    grown = points[-1][1] - points[0][1]
    grown += sum(before for (_, before), (_, after) in pairwise(points) if after < before)
    if not grown:
        return 0.0
    sampled = points[-1][0] - points[0][0]
    between = sampled / (len(points) - 1)
    before, after = points[0][0] - first, last - points[-1][0]
    before = min(before if before < 1.1 * between else between / 2, sampled * points[0][1] / grown)
    after = after if after < 1.1 * between else between / 2
    return grown * (sampled + before + after) / sampled


def _rate(points: Sequence[Point], first: float, last: float) -> float | None:
    grown = _increase(points, first, last)
    return None if grown is None else grown / (last - first)


def _predict_linear(points: Sequence[Point], _first: float, last: float, ahead: float) -> float | None:
    if len(points) < 2:  # noqa: PLR2004 - a line needs two
        return None
    times = [time - last for time, _ in points]
    values = [value for _, value in points]
    mean_time, mean = math.fsum(times) / len(times), math.fsum(values) / len(values)
    squares = math.fsum((time - mean_time) ** 2 for time in times)
    products = math.fsum((time - mean_time) * (value - mean) for time, value in zip(times, values, strict=True))
    return mean + products / squares * (ahead - mean_time)


def _resets(points: Sequence[Point], *_: float) -> float:
    return float(sum(after < before for (_, before), (_, after) in pairwise(points)))


RANGE_FUNCTIONS: dict[str, Callable[..., float | None]] = {
    "increase": _increase,
    "rate": _rate,
    "predict_linear": _predict_linear,
    "resets": _resets,
    "min_over_time": lambda points, *_: min(value for _, value in points),
    "max_over_time": lambda points, *_: max(value for _, value in points),
    "count_over_time": lambda points, *_: float(len(points)),
    "last_over_time": lambda points, *_: points[-1][1],
}


def _histogram_quantile(arguments: Sequence[Any], figures: Figures, at: float) -> Vector:
    share, of = arguments
    groups: dict[frozenset[tuple[str, str]], list[Point]] = {}
    for sample in of(figures, at):
        rest = frozenset((name, value) for name, value in sample.labels.items() if name != "le")
        groups.setdefault(rest, []).append((float(sample.labels.get("le", "nan")), sample.value))
    wanted = share(figures, at)
    return [Sample(dict(rest), _bucket_quantile(wanted, sorted(buckets))) for rest, buckets in groups.items()]


def _bucket_quantile(share: float, buckets: list[Point]) -> float:
    """Return a quantile of the values that are counted at or below each bound."""
    if len(buckets) < 2 or buckets[-1][0] != math.inf or not buckets[-1][1]:  # noqa: PLR2004 - a bound and +Inf
        return math.nan
    rank = share * buckets[-1][1]
    place = next((place for place, (_, count) in enumerate(buckets[:-1]) if count >= rank), None)
    if place is None:
        return buckets[-2][0]
    lower, below = buckets[place - 1] if place else (0.0, 0.0)
    upper, count = buckets[place]
    if not place and upper <= 0:
        return upper
    return lower + (upper - lower) * (rank - below) / (count - below) if count > below else upper


def _label_replace(arguments: Sequence[Any], figures: Figures, at: float) -> Vector:
    of, label, replacement, source, pattern = arguments
    template = re.sub(r"\$(\d+)", r"\\\1", replacement)
    results = []
    for sample in of(figures, at):
        found = re.fullmatch(pattern, sample.labels.get(source, ""))
        labels = sample.labels if found is None else {**sample.labels, label: found.expand(template)}
        results.append(sample._replace(labels=labels))
    return results


def _abs(arguments: Sequence[Any], figures: Figures, at: float) -> Vector:
    return [Sample(each.labels, abs(each.value)) for each in arguments[0](figures, at)]


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "histogram_quantile": _histogram_quantile,
    "label_replace": _label_replace,
    "abs": _abs,
}
