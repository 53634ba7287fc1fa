"""Subcommands of argparse whose functions are imported only when they run."""

import argparse
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NoReturn, Self

WRONG_USAGE = 2  # the exit status of a command that was typed wrongly, or whose start was refused

Run = Callable[[argparse.Namespace, Mapping[str, str]], None]


class Deferred:
    """A function of `commands/`, written as `module:function`, that is imported when it is called."""

    def __init__(self, reference: str) -> None:
        self.reference = reference

    def resolve(self) -> Run:
        """Import the function."""
        module, _, name = self.reference.partition(":")
        function: Run = getattr(import_module(f"support_service.commands.{module}"), name)
        return function

    def __call__(self, arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
        """Import the function, and call it."""
        self.resolve()(arguments, environ)


class Parser(argparse.ArgumentParser):
    """A parser whose exit status for wrong usage can be set."""

    wrong_usage = WRONG_USAGE

    def parse_known_args(self, *arguments: Any, **more: Any) -> Any:
        """Refuse unknown arguments here, so that the usage shown is this command's and not its parent's."""
        known, unknown = super().parse_known_args(*arguments, **more)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, and exit."""
        self.print_usage(sys.stderr)
        self.exit(self.wrong_usage, f"{self.prog}: error: {message}\n")


class Subcommands:
    """The subcommands of one parser."""

    def __init__(self, parser: Parser, metavar: str, *, required: bool = True) -> None:
        self._parsers = parser.add_subparsers(required=required, metavar=metavar)

    def add(self, name: str, what: str, run: str, *, description: str = "", epilog: str = "") -> Parser:
        """Add a command that runs the function `module:function` of `commands/`."""
        parser = self._add(name, what, description, epilog)
        parser.set_defaults(run=Deferred(run))
        return parser

    def group(self, name: str, what: str, metavar: str, *, epilog: str = "") -> Self:
        """Add a command that has subcommands of its own, of which one is required."""
        return type(self)(self._add(name, what, "", epilog), metavar)

    def _add(self, name: str, what: str, description: str, epilog: str) -> Parser:
        form = argparse.RawDescriptionHelpFormatter if epilog else argparse.HelpFormatter
        return self._parsers.add_parser(
            name, help=what, description=description or what, epilog=epilog or None, formatter_class=form
        )
