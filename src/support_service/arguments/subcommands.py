"""Argparse subcommands whose functions are imported only when they run."""

import argparse
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NoReturn, Self

USAGE_ERROR_STATUS = 2  # exit status for wrong arguments or a refused start

CommandFunction = Callable[[argparse.Namespace, Mapping[str, str]], None]


class LazyCommand:
    """A function of `commands/`, written as `module:function` and imported when it is called."""

    def __init__(self, reference: str) -> None:
        self.reference = reference

    def resolve(self) -> CommandFunction:
        """Import and return the function."""
        module, _, name = self.reference.partition(":")
        function: CommandFunction = getattr(import_module(f"support_service.commands.{module}"), name)
        return function

    def __call__(self, arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
        """Import and call the function."""
        self.resolve()(arguments, environ)


class Parser(argparse.ArgumentParser):
    """A parser with a configurable exit status for wrong arguments."""

    wrong_usage = USAGE_ERROR_STATUS

    def parse_known_args(self, *arguments: Any, **more: Any) -> Any:
        """Parse arguments and reject unknown ones here, so that the usage shown is this command's, not its parent's."""
        known, unknown = super().parse_known_args(*arguments, **more)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit with `wrong_usage`."""
        self.print_usage(sys.stderr)
        self.exit(self.wrong_usage, f"{self.prog}: error: {message}\n")


class Subcommands:
    """The subcommands of one parser."""

    def __init__(self, parser: Parser, metavar: str, *, required: bool = True) -> None:
        self._parsers = parser.add_subparsers(required=required, metavar=metavar)

    def add(self, name: str, what: str, run: str, *, description: str = "", epilog: str = "") -> Parser:
        """Add a command that runs the function `module:function` of `commands/`. An empty `what` hides it."""
        parser = self._add(name, what, description, epilog)
        parser.set_defaults(run=LazyCommand(run))
        return parser

    def group(self, name: str, what: str, metavar: str, *, epilog: str = "") -> Self:
        """Add a command that requires one of its own subcommands."""
        return type(self)(self._add(name, what, "", epilog), metavar)

    def _add(self, name: str, what: str, description: str, epilog: str) -> Parser:
        form = argparse.RawDescriptionHelpFormatter if epilog else argparse.HelpFormatter
        listed: dict[str, Any] = {"help": what} if what else {}
        return self._parsers.add_parser(
            name, description=description or what, epilog=epilog or None, formatter_class=form, **listed
        )
