"""The command line: one subcommand a job, each with its `--help`."""

import argparse
import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import uvloop

from support_service import __version__, server
from support_service.commands import attachments, audit, events, privacy, timeline, tokens
from support_service.commands.arguments import argument
from support_service.commands.base import LACKING
from support_service.database import migrate
from support_service.demo import traffic
from support_service.demo.run import run as run_demo
from support_service.errors import SupportError
from support_service.probe import run as probe_run
from support_service.probe.check import Check
from support_service.settings import Client, Settings, WrongSetting, base_url
from support_service.telemetry import logs
from support_service.web import asyncapi
from support_service.web.gaps import gaps
from support_service.web.openapi import document

Subparsers = Any  # argparse keeps its name for itself
WRONG_START = 2  # the exit status of a start that was refused
NOT_READ = 141  # that of a command whose output nobody takes, as shells have it for SIGPIPE
LAST_PORT = 65_535
NEWER = "The database is newer than this release"

log = logging.getLogger(__name__)


def main() -> None:
    """Run the subcommand that the arguments name."""
    arguments = argparse.Namespace(refused=WRONG_START)
    try:
        try:
            build_parser().parse_args(namespace=arguments)
            arguments.run(arguments, os.environ)
        finally:
            _flush()
    except BrokenPipeError:  # as of `export | head`: whoever reads has enough
        sys.exit(NOT_READ)
    except (WrongSetting, SupportError, OSError) as refusal:
        print(f"support-service: {str(refusal) or type(refusal).__name__}", file=sys.stderr)
        sys.exit(arguments.refused)
    except KeyboardInterrupt:
        sys.exit(130)


class Parser(argparse.ArgumentParser):
    """A parser that ends with a status of its own where it is used wrongly."""

    wrong_usage = WRONG_START

    def parse_known_args(self, *arguments: Any, **more: Any) -> Any:
        """What is not known is wrong here already, and not first in the command above."""
        known, unknown = super().parse_known_args(*arguments, **more)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end."""
        self.print_usage(sys.stderr)
        self.exit(self.wrong_usage, f"{self.prog}: error: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line, with every command."""
    parser = Parser(
        prog="support-service",
        description="Support cases, one merged timeline and attachments. Settings come from the environment; the "
        "README lists them.",
    )
    parser.add_argument("--version", action="version", version=f"support-service {__version__}")
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, what in (
        ("serve", _serve, "serve the API until SIGTERM; a SQLite database is migrated first"),
        ("migrate", _migrate, "bring the database to the newest schema"),
        ("asyncapi", _asyncapi, "print the AsyncAPI document, which describes events in both directions"),
    ):
        subcommands.add_parser(name, help=what, description=what).set_defaults(run=run)
    what = "print the OpenAPI document, which describes every call"
    described = subcommands.add_parser("openapi", help=what, description=what)
    described.add_argument("--check", action="store_true", help="say only what it lacks; exit status 1 if anything")
    described.set_defaults(run=_openapi)
    what = "serve with simulated order, payment and fulfillment services and sample cases"
    demonstration = subcommands.add_parser("demo", help=what, description=what)
    demonstration.add_argument("--port", type=int, default=None, help="port to listen on (default: SUPPORT_PORT, 8000)")
    demonstration.set_defaults(run=_demo)
    for room in (timeline, attachments, events, audit, privacy, tokens):
        room.add_to(subcommands)
    _add_traffic(demonstration)
    _add_probe(subcommands)
    return parser


def _add_traffic(demonstration: argparse.ArgumentParser) -> None:
    what = "send a running service believable load, for dashboards; as SUPPORT_TOKEN says, where it asks who calls"
    parser = demonstration.add_subparsers(metavar="traffic").add_parser("traffic", help=what, description=what)
    parser.add_argument(
        "--base-url",
        type=argument(base_url),
        default="http://127.0.0.1:8000",
        metavar="URL",
        help="(default: %(default)s)",
    )
    parser.add_argument("--rate", type=argument(_seconds), default=5.0, help="requests a second (default: %(default)s)")
    parser.add_argument("--duration", type=argument(_seconds), metavar="SECONDS", help="(default: until Ctrl-C)")
    parser.add_argument("--faults", action="store_true", help="also what broken clients send")
    parser.set_defaults(run=_traffic)


def _add_probe(commands: Subparsers) -> None:
    what = "check a running service from outside, from opening a case to deleting it"
    probe: Parser = commands.add_parser(
        "probe",
        help=what,
        description="Open a synthetic case, add a message, send a file and fetch it, send an event of the fulfillment "
        "service and wait until the timeline shows it, refresh, close, and delete what was made. Prints a JSON report. "
        "SUPPORT_TOKEN says who calls, where the service asks. Exit status: 0 good, 2 wrong or too slow, 3 could not "
        "run.",
    )
    probe.wrong_usage = probe_run.NOT_RUN
    probe.add_argument("--base-url", required=True, metavar="URL", help="where the service is, as http://HOST:PORT")
    how = probe.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="check once (the default)")
    how.add_argument("--interval", type=argument(_seconds), metavar="SECONDS", help="check again and again, as 60s")
    probe.add_argument(
        "--listen",
        type=argument(_address),
        default=("127.0.0.1", 9101),
        metavar="HOST:PORT",
        help="with --interval: serve /metrics",
    )
    probe.add_argument(
        "--threshold",
        type=argument(_seconds),
        default=2.0,
        metavar="SECONDS",
        help="for each step (default: %(default)ss)",
    )
    probe.add_argument(
        "--event-threshold",
        type=argument(_seconds),
        default=5.0,
        metavar="SECONDS",
        help="from the event to the timeline that shows it (default: %(default)ss)",
    )
    probe.add_argument(
        "--header", action="append", default=[], type=argument(_header), metavar="NAME:VALUE", help="to send along"
    )
    probe.set_defaults(run=_probe, refused=probe_run.NOT_RUN)


def _serve(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    settings = Settings.to_serve(environ)
    logs.configure(settings.server.log_level)
    url = settings.database.url
    standing = migrate.upgrade(url) if url.startswith("sqlite:") else migrate.standing(url)
    if standing == "older":
        raise WrongSetting(LACKING)
    if standing == "newer":
        log.warning("%s; it works with what it knows of it", NEWER)
    uvloop.run(server.serve(settings))


def _migrate(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    settings = Settings.load(environ)
    if migrate.upgrade(settings.database.url) == "newer":
        # No failure: where `migrate` runs before each start, as in Kubernetes, it would keep an older release from it.
        print(f"{NEWER}: nothing was changed.")
    else:
        print("The database has the newest schema.")


def _openapi(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    described = document(secured=Settings.load(environ).server.auth != "open")
    if not arguments.check:
        print(json.dumps(described, indent=2))
    elif lacks := gaps(described):
        sys.exit("\n".join(lacks))


def _probe(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    headers = Client.of(environ).headers | dict(arguments.header)
    check = Check(arguments.base_url, headers, arguments.threshold, arguments.event_threshold)
    if arguments.interval is None:
        sys.exit(uvloop.run(probe_run.once(check)))
    uvloop.run(probe_run.again_and_again(check, arguments.interval, arguments.listen))


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError("a number above 0")
    return seconds


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > LAST_PORT:
        raise ValueError(f"HOST:PORT with a port from 0 to {LAST_PORT}")
    return host.strip("[]") or "127.0.0.1", int(port)


def _header(text: str) -> tuple[str, str]:
    header = re.fullmatch(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*:([^\x00-\x1f\x7f]*)", text)
    if not header:
        raise ValueError("NAME:VALUE, on one line and with a name that HTTP allows")
    return header[1], header[2].strip()


def _asyncapi(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    events = Settings.load(environ).events
    print(json.dumps(asyncapi.document(events.stream, events.inbound_stream), indent=2))


def _demo(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    uvloop.run(run_demo(environ, arguments.port))


def _traffic(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    headers = Client.of(environ).headers
    uvloop.run(traffic.run(arguments.base_url, headers, arguments.rate, arguments.duration, faults=arguments.faults))


def _flush() -> None:
    """Print what waits; raises OSError where it can't be, and forgets it, or the interpreter would try once more."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
