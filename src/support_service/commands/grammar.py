"""How the command line is read: parsers, subcommands, and types of arguments, whose errors say what is expected."""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NoReturn, Self, TypeVar

from support_service.core import http, units
from support_service.core.clock import parse_time, utc_now
from support_service.events.broker.base import ENTRY_ID_PATTERN

USAGE_ERROR_STATUS = 2  # exit status for wrong arguments or a refused start
MAX_PORT = 65_535
REQUEST_RATE_PATTERN = re.compile(r"(\d+(?:\.\d+)?)(?:\s*/\s*(s|min|h))?")
HEADER_PATTERN = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*:([^\x00-\x1f\x7f]*)")
STREAM_ENTRY_PATTERN = re.compile(ENTRY_ID_PATTERN)

CommandFunction = Callable[[argparse.Namespace, Mapping[str, str]], None]
Value = TypeVar("Value")


class Parser(argparse.ArgumentParser):
    """A parser with a configurable exit status for wrong arguments."""

    usage_error_status = USAGE_ERROR_STATUS
    is_intermixed = False  # options may stand between the arguments, which argparse does not offer to subcommands
    _is_reading = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments and reject unknown ones here, so that the usage shown is this command's, not its parent's."""
        if not self.is_intermixed or self._is_reading:
            known, unknown = super().parse_known_args(args, namespace)
        else:
            self._is_reading = True  # what follows calls this method, once for the options and once for the rest
            known, unknown = self.parse_known_intermixed_args(args, namespace)
            self._is_reading = False
        if unknown and not self._is_reading:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit with `usage_error_status`."""
        self.print_usage(sys.stderr)
        self.exit(self.usage_error_status, f"{self.prog}: error: {message}\n")


class Subcommands:
    """The subcommands of one parser."""

    def __init__(self, parser: Parser, metavar: str, *, required: bool = True) -> None:
        self._parsers = parser.add_subparsers(required=required, metavar=metavar)

    def add(self, name: str, what: str, run: CommandFunction, *, description: str = "", epilog: str = "") -> Parser:
        """Add a command that calls `run`. An empty `what` hides it."""
        parser = self._add_parser(name, what, description, epilog)
        parser.set_defaults(run=run)
        return parser

    def group(self, name: str, what: str, metavar: str, *, epilog: str = "") -> Self:
        """Add a command that requires one of its own subcommands."""
        return type(self)(self._add_parser(name, what, "", epilog), metavar)

    def _add_parser(self, name: str, what: str, description: str, epilog: str) -> Parser:
        form = argparse.RawDescriptionHelpFormatter if epilog else argparse.HelpFormatter
        listed: dict[str, Any] = {"help": what} if what else {}
        return self._parsers.add_parser(
            name, description=description or what, epilog=epilog or None, formatter_class=form, **listed
        )


def argument_type(name: str) -> Callable[[Callable[[str], Value]], Callable[[str], Value]]:
    """Return a decorator for a parser of `name` whose ValueError describes the expected values."""

    def decorate(parse: Callable[[str], Value]) -> Callable[[str], Value]:
        def parse_argument(text: str) -> Value:
            try:
                return parse(text)
            except ValueError as failure:
                raise argparse.ArgumentTypeError(f"invalid {name} {text!r}: expected {failure}") from None

        return parse_argument

    return decorate


duration = argument_type("duration")(units.parse_duration)
byte_rate = argument_type("rate")(units.parse_byte_rate)
size = argument_type("size")(units.parse_size)
positive_int = argument_type("number")(units.parse_count)
percentage = argument_type("percentage")(units.parse_percentage)


@argument_type("URL")
def base_url(text: str) -> str:
    """Return the base URL of a service; without a scheme it is an http URL, such as `localhost:8000`."""
    return http.parse_base_url(text if "://" in text else f"http://{text}")


@argument_type("id")
def case_id(text: str) -> str:
    """Return the id of a case, which must not be empty: a shell variable without a value gives an empty id."""
    if not text.strip():
        raise ValueError("the id of a case, but the case id is empty: check the variable that holds it")
    return text


@argument_type("duration")
def seconds(text: str) -> float:
    """Return the seconds of a duration above 0. A number without a unit means seconds."""
    try:
        duration = units.parse_duration(text, default_unit="s")
    except ValueError:
        duration = timedelta(0)
    if not duration:
        raise ValueError("a duration above 0, such as 1.5s, 60s or 5m; a number without a unit means seconds")
    return duration.total_seconds()


@argument_type("rate")
def request_rate(text: str) -> float:
    """Return requests per second; `300/min` is 5."""
    found = REQUEST_RATE_PATTERN.fullmatch(text.strip())
    rate = float(found[1]) / units.SECONDS_PER_PERIOD[found[2] or "s"] if found else 0.0
    if not 0 < rate <= units.MAX_REQUESTS_PER_SECOND:
        raise ValueError("a number of requests per second above 0, such as 5 or 0.5, or a rate with /s, /min or /h")
    return rate


@argument_type("time")
def moment(text: str) -> datetime:
    """Return a time: an ISO 8601 time with a time zone, or a duration before now, such as `10m`."""
    try:
        return utc_now() - units.parse_duration(text)
    except ValueError:
        found = parse_time(text)
    if found is None:
        raise ValueError("a time with a time zone, such as 2026-05-12T08:30:00Z, or a duration before now, such as 10m")
    return found


@argument_type("port")
def port(text: str) -> int:
    """Return the number of a port to listen on; 0 takes a free one."""
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > MAX_PORT:
        raise ValueError(f"a number from 0 to {MAX_PORT}")
    return int(text)


@argument_type("address")
def address(text: str) -> tuple[str, int]:
    """Return the host and port to listen on. The default host is 127.0.0.1."""
    host, _, port = text.rpartition(":")
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > MAX_PORT:
        raise ValueError(f"HOST:PORT with a port from 0 to {MAX_PORT}")
    return host.strip("[]") or "127.0.0.1", int(port)


@argument_type("header")
def header(text: str) -> tuple[str, str]:
    """Return a header's name and value."""
    found = HEADER_PATTERN.fullmatch(text)
    if not found:
        raise ValueError("NAME:VALUE on one line, with a valid HTTP header name")
    return found[1], found[2].strip()


@argument_type("id")
def stream_entry_id(text: str) -> str:
    """Return a text that is the id of a Redis stream entry."""
    if not STREAM_ENTRY_PATTERN.fullmatch(text):
        raise ValueError("an id from the list, such as 1700000000000-0")
    return text
