"""The command line: one subcommand a job, each with its `--help`."""

import argparse
import json
import os
import sys
from collections.abc import Callable

import uvloop

from support_service import __version__, cli_attachments, oncall, server
from support_service.database import migrate
from support_service.demo.run import run as run_demo
from support_service.errors import SupportError
from support_service.settings import Settings, WrongSetting
from support_service.telemetry import logs
from support_service.web.openapi import document

WRONG_START = 2  # the exit status of a start that was refused


def main() -> None:
    """Run the subcommand that the arguments name."""
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except (WrongSetting, SupportError) as refusal:
        sys.exit(_say(str(refusal)))
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="support-service",
        description="Support cases, one merged timeline and attachments. Settings come from the environment; the "
        "README lists them.",
    )
    parser.add_argument("--version", action="version", version=f"support-service {__version__}")
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, what in (
        ("serve", _serve, "serve the API until SIGTERM; a SQLite database is migrated first"),
        ("migrate", _migrate, "bring the database to the newest schema"),
        ("openapi", _openapi, "print the OpenAPI document"),
    ):
        subcommands.add_parser(name, help=what, description=what).set_defaults(run=run)
    what = "serve with simulated order, payment and fulfillment services and sample cases"
    demonstration = subcommands.add_parser("demo", help=what, description=what)
    demonstration.add_argument("--port", type=int, default=None, help="port to listen on (default: SUPPORT_PORT, 8000)")
    demonstration.set_defaults(run=_demo)
    oncall.add_to(subcommands, _with_settings)
    cli_attachments.add_to(subcommands)
    return parser


def _serve(_: argparse.Namespace) -> None:
    settings = Settings.load(os.environ)
    logs.configure(settings.server.log_level)
    url = settings.database.url
    if url.startswith("sqlite:"):
        migrate.upgrade(url)
    elif not migrate.is_current(url):
        raise WrongSetting("The database at SUPPORT_DATABASE_URL lacks migrations: run `support-service migrate` first")
    uvloop.run(server.serve(settings))


def _migrate(_: argparse.Namespace) -> None:
    settings = Settings.load(os.environ)
    migrate.upgrade(settings.database.url)
    print("The database has the newest schema.")


def _openapi(_: argparse.Namespace) -> None:
    print(json.dumps(document(), indent=2))


def _demo(arguments: argparse.Namespace) -> None:
    uvloop.run(run_demo(os.environ, arguments.port))


def _with_settings(run: oncall.Run) -> Callable[[argparse.Namespace], None]:
    return lambda arguments: run(arguments, Settings.load(os.environ))


def _say(line: str) -> int:
    print(f"support-service: {line}", file=sys.stderr)
    return WRONG_START
