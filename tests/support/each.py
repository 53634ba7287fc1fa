"""Rules of texts: a rule is one test, whose failure names each place that breaks it."""

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

Rule = Callable[..., None]
ROOT = Path(__file__).parents[2]


def each(**values: Iterable[Any]) -> Callable[[Rule], Rule]:
    """Run a rule for each combination of these arguments, and fail with a paragraph for each place that breaks it."""
    names = list(values)
    combinations = [*itertools.product(*values.values())]

    def loop(rule: Rule) -> Rule:
        @wraps(rule)
        def test(**fixtures: Any) -> None:
            assert combinations
            broken = []
            for combination in combinations:
                try:
                    rule(**dict(zip(names, combination, strict=True)), **fixtures)
                except AssertionError as error:
                    broken.append(f"{', '.join(map(_title, combination))}: {error}")
            if broken:
                pytest.fail("\n\n".join(broken), pytrace=False)

        signature = inspect.signature(rule)
        fixtures = [parameter for name, parameter in signature.parameters.items() if name not in names]
        test.__signature__ = signature.replace(parameters=fixtures)
        return test

    return loop


def _title(value: Any) -> str:
    if isinstance(value, Mapping):
        return value["title"]
    if isinstance(value, Path):
        return str(value.relative_to(ROOT))
    return str(value) if isinstance(value, str) else next(iter(vars(value).values()))
