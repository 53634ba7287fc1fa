"""Loops as one test: rules of texts for each place, and tests for each row of a table. A failure names the places."""

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
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


def each_row(
    names: str | tuple[str, ...], table: Iterable[Any], ids: Iterable[str] | None = None
) -> Callable[[Rule], Rule]:
    """Run a test for each row of a table: as `pytest.mark.parametrize`, but as one test with a subtest for each row.

    The rows share the fixtures of the test.
    """
    columns = tuple(name.strip() for name in names.split(",")) if isinstance(names, str) else names
    rows = [*_rows(columns, table, ids)]
    assert rows

    def loop(test: Rule) -> Rule:
        parameters = inspect.signature(test).parameters

        def arguments(row: dict[str, Any], fixtures: dict[str, Any]) -> dict[str, Any]:
            return row | {name: value for name, value in fixtures.items() if name in parameters}

        @wraps(test)
        async def run_async(**fixtures: Any) -> None:
            for title, row in rows:
                with fixtures["subtests"].test(title):
                    await test(**arguments(row, fixtures))

        @wraps(test)
        def run(**fixtures: Any) -> None:
            for title, row in rows:
                with fixtures["subtests"].test(title):
                    test(**arguments(row, fixtures))

        chosen = run_async if inspect.iscoroutinefunction(test) else run
        wanted = dict.fromkeys([*(name for name in parameters if name not in columns), "subtests"])
        chosen.__signature__ = inspect.Signature(
            [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in wanted]
        )
        return chosen

    return loop


def _rows(
    columns: tuple[str, ...], table: Iterable[Any], ids: Iterable[str] | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the title of each row, and its values by column."""
    titles = iter(ids or ())
    for given in table:
        title, row = next(titles, None), given
        if isinstance(given, type(pytest.param())):
            title, row = given.id, given.values
        elif len(columns) == 1:
            row = (given,)
        values = dict(zip(columns, row, strict=True))
        title = title or ", ".join(str(value)[:60] for value in values.values())
        yield title.encode(errors="backslashreplace").decode(), values


def _title(value: Any) -> str:
    if isinstance(value, Mapping):
        return value["title"]
    if isinstance(value, Path):
        return str(value.relative_to(ROOT))
    return str(value) if isinstance(value, str) else next(iter(vars(value).values()))
