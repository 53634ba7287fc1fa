"""Every command of the command line."""

from argparse import _SubParsersAction
from collections.abc import Iterator

from support_service.commands.grammar import Parser
from support_service.commands.parser import build_parser


def every_command(below: Parser | None = None, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Parser]]:
    """Yield the words and the parser of each command at every depth, starting with the program itself."""
    below = below or build_parser()
    yield words, below
    for action in below._actions:
        if isinstance(action, _SubParsersAction):
            for name, each in action.choices.items():
                yield from every_command(each, (*words, name))


EVERY_COMMAND = [" ".join(words) for words, _ in every_command()]
