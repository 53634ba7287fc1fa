"""The subcommands about attachments: attach, offload, sweep, scrub and retention."""

import argparse
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvloop

from support_service import quantities
from support_service.commands import upkeep
from support_service.commands.arguments import argument
from support_service.commands.attach import attach
from support_service.commands.base import with_migrations
from support_service.settings import Client, Settings, base_url

Commands = Any  # argparse keeps its name for itself


def add_to(subcommands: Commands) -> None:
    """Add each of them to a parser."""
    for add in (_add_attach, _add_offload, _add_sweep, _add_scrub, _add_retention):
        add(subcommands)


def _add_attach(to: Commands) -> None:
    what = "upload files to a case of a running service; SUPPORT_TOKEN says who you are, where that is asked"
    command = to.add_parser("attach", help=what, description=what)
    command.add_argument("case", metavar="CASE", help="the id of the case")
    command.add_argument("files", metavar="FILE", nargs="+", type=Path)
    command.add_argument(
        "--url",
        type=argument(base_url),
        help="address of the service (default: http://SUPPORT_HOST:SUPPORT_PORT, http://127.0.0.1:8000)",
    )
    command.add_argument("--internal", action="store_true", help="for agents' eyes, never for customers'")
    command.set_defaults(run=_attach)


def _add_offload(to: Commands) -> None:
    what = "move files from the local disk to S3, each copied, read back and compared first"
    command = to.add_parser("offload", help=what, description=what)
    command.add_argument(
        "--older-than",
        type=argument(quantities.duration),
        metavar="AGE",
        help="only files of at least this age, such as 30d (default: SUPPORT_OFFLOAD_AFTER, 30d; with --reverse: all)",
    )
    command.add_argument("--dry-run", action="store_true", help="only say how much there is to move")
    command.add_argument("--limit", type=argument(quantities.count), metavar="N", help="move at most this many files")
    command.add_argument(
        "--rate", type=argument(quantities.rate), metavar="RATE", help="bytes a second, such as 50MB/s"
    )
    command.add_argument("--reverse", action="store_true", help="bring files back from S3 to the local disk")
    command.set_defaults(run=_offload)


def _add_sweep(to: Commands) -> None:
    what = (
        "hold rows, files and ledger against one another, and repair what is safe; status 1 where a file is missing "
        "or damaged"
    )
    command = to.add_parser("sweep", help="hold rows, files and ledger against one another", description=what)
    command.add_argument("--dry-run", action="store_true", help="repair nothing, only say what there is")
    command.set_defaults(run=_sweep)


def _add_scrub(to: Commands) -> None:
    what = "hash stored files again, and compare; status 1 where one is not what it was"
    command = to.add_parser("scrub", help=what, description=what)
    command.add_argument(
        "--sample",
        type=argument(quantities.share),
        default=1.0,
        metavar="SHARE",
        help="only so many, picked at random, such as 1%% (default: 100%%)",
    )
    command.set_defaults(run=_scrub)


def _add_retention(to: Commands) -> None:
    what = "delete the files of cases that were settled long ago; each deletion is recorded in the database"
    command = to.add_parser("retention", help=what, description=what)
    command.add_argument(
        "--older-than",
        type=argument(quantities.duration),
        required=True,
        metavar="AGE",
        help="neither the case nor the file changed for this long, such as 365d",
    )
    command.add_argument(
        "--status",
        action="append",
        choices=("closed", "resolved"),
        help="status of the cases; may be given twice (default: closed)",
    )
    command.add_argument("--limit", type=argument(quantities.count), metavar="N", help="delete at most this many files")
    command.add_argument("--dry-run", action="store_true", help="delete nothing, only name what would be")
    command.set_defaults(run=_retention)


def _attach(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    listening = Settings.load(environ).server
    host = f"[{listening.host}]" if ":" in listening.host else listening.host
    service = arguments.url or f"http://{host}:{listening.port}"
    visibility = "internal" if arguments.internal else "public"
    sys.exit(uvloop.run(attach(service, arguments.case, arguments.files, Client.of(environ).headers, visibility)))


def _offload(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    settings = with_migrations(environ)
    older_than = arguments.older_than
    if older_than is None:
        older_than = timedelta(0) if arguments.reverse else settings.s3.offload_after or timedelta(days=30)
    status = upkeep.offload(
        settings,
        older_than=older_than,
        reverse=arguments.reverse,
        dry_run=arguments.dry_run,
        limit=arguments.limit,
        rate=arguments.rate,
    )
    sys.exit(uvloop.run(status))


def _sweep(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    sys.exit(uvloop.run(upkeep.sweep(with_migrations(environ), dry_run=arguments.dry_run)))


def _scrub(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    sys.exit(uvloop.run(upkeep.scrub(with_migrations(environ), sample=arguments.sample)))


def _retention(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    status = upkeep.retain(
        with_migrations(environ),
        older_than=arguments.older_than,
        statuses=arguments.status or ["closed"],
        limit=arguments.limit,
        dry_run=arguments.dry_run,
    )
    sys.exit(uvloop.run(status))
