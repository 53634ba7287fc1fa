"""Commands of the service itself: `serve`, `openapi` and `asyncapi`, and `demo` with `demo traffic`."""

import argparse
import json
import logging
import sys
from collections.abc import Mapping

from support_service.commands import grammar
from support_service.commands.runtime import (
    MIGRATIONS_MISSING_MESSAGE,
    NEWER_DATABASE_MESSAGE,
    load_settings,
    run_coroutine,
)

log = logging.getLogger(__name__)


def add_serve_command(commands: grammar.Subcommands) -> None:
    """Add `serve` to the commands."""
    commands.add("serve", "serve the API until SIGTERM; a SQLite database is migrated first", serve)


def add_document_commands(commands: grammar.Subcommands) -> None:
    """Add `asyncapi` and `openapi` to the commands."""
    what = "print the AsyncAPI document, which describes inbound and published events"
    commands.add("asyncapi", what, print_asyncapi)
    describing = commands.add("openapi", "print the OpenAPI document, which describes every endpoint", print_openapi)
    describing.add_argument("--check", action="store_true", help="print only its gaps; exit status 1 if it has any")


def add_demo_commands(commands: grammar.Subcommands) -> None:
    """Add `demo` to the commands."""
    what = "serve the API with simulated upstream services and sample cases"
    serving = commands.add("demo", what, demo)
    serving.add_argument(
        "--port", type=grammar.port, default=None, help="port to listen on (default: SUPPORT_PORT, 8000)"
    )
    what = "send realistic load to a running service, for dashboards; SUPPORT_TOKEN authenticates"
    load = grammar.Subcommands(serving, "traffic", required=False).add("traffic", what, send_traffic)
    load.add_argument(
        "--base-url",
        type=grammar.base_url,
        default="http://127.0.0.1:8000",
        metavar="URL",
        help="URL of the service (default: %(default)s)",
    )
    load.add_argument(
        "--rate",
        type=grammar.request_rate,
        default=5.0,
        help="requests per second, or for example 300/min (default: %(default)s)",
    )
    load.add_argument("--duration", type=grammar.seconds, help="how long, such as 60s or 5m (default: until Ctrl-C)")
    load.add_argument("--faults", action="store_true", help="also send invalid requests")


def serve(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Serve the API. A SQLite database is migrated first; raises UserError if another one lacks migrations."""
    from support_service.core.errors import UserError
    from support_service.platform.database import migrate
    from support_service.platform.settings import Settings
    from support_service.platform.telemetry import logs
    from support_service.server import serve as run_server

    settings = Settings.load_to_serve(environ)
    logs.configure_logging(settings.server.log_level)
    for line in settings.warnings:  # before the database is opened: one of them may be the reason why it is refused
        log.warning(line)
    url = settings.database.url
    schema = migrate.upgrade(url) if url.startswith("sqlite:") else migrate.read_schema_status(url)
    if schema == "older":
        raise UserError(MIGRATIONS_MISSING_MESSAGE)
    if schema == "newer":
        log.warning("%s; tables and columns that are unknown to this release are ignored", NEWER_DATABASE_MESSAGE)
    run_coroutine(run_server(settings))


def print_openapi(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print the OpenAPI document. With `--check`, exit with status 1 and list its gaps if it has any."""
    from support_service.api.openapi import document
    from support_service.api.routes import ROUTES

    server = load_settings(environ).server
    described = document.openapi_document(ROUTES, secured=server.auth != "open", public_url=server.public_url or "")
    if not arguments.check:
        print(json.dumps(described, indent=2))
    elif found := document.find_gaps(described):
        sys.exit("\n".join(found))


def print_asyncapi(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print the AsyncAPI document."""
    from support_service.api.openapi import asyncapi as asyncapi_document

    events = load_settings(environ).events
    print(json.dumps(asyncapi_document.asyncapi_document(events.stream, events.inbound_stream), indent=2))


def demo(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Serve the API with simulated upstream services and sample cases."""
    from support_service.demo.run import run as run_demo

    run_coroutine(run_demo(environ, arguments.port))


def send_traffic(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Send load to a running service."""
    from support_service.demo import traffic as traffic_generator
    from support_service.platform.settings import ClientSettings

    headers = ClientSettings.load(environ).headers
    run_coroutine(
        traffic_generator.run(arguments.base_url, headers, arguments.rate, arguments.duration, faults=arguments.faults)
    )
