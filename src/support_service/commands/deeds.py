"""Commands that have several deeds, each with an example, and the tables that they print."""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

Given = TypeVar("Given")
Add = Callable[[str, Callable[[Namespace, Given], None], str, str], ArgumentParser]


def deeds(
    commands: Any, name: str, what: str, *, examples: str, metavar: str, given: Callable[[Mapping[str, str]], Given]
) -> Add[Given]:
    """Add a command; gives what adds its deeds, which run with what `given` reads of the environment."""

    def parser(to: Any, name: str, what: str, epilog: str) -> Any:
        return to.add_parser(
            name, help=what, description=what, epilog=epilog, formatter_class=RawDescriptionHelpFormatter
        )

    def add(deed: str, run: Callable[[Namespace, Given], None], what: str, example: str) -> ArgumentParser:
        added: ArgumentParser = parser(each, deed, what, f"example:\n  support-service {name} {example}")
        added.set_defaults(run=lambda arguments, environ: run(arguments, given(environ)))
        return added

    each = parser(commands, name, what, examples).add_subparsers(required=True, metavar=metavar)
    return add


def show(table: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns, the first of them the heads."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
