"""Arguments of `attach`, `offload`, `sweep`, `scrub` and `retention`."""

import argparse
from pathlib import Path

from support_service.arguments import argument_types
from support_service.arguments.subcommands import Subcommands


def add_to(commands: Subcommands) -> None:
    """Add these commands."""
    for add in (_add_attach, _add_offload, _add_sweep, _add_scrub, _add_retention):
        add(commands)


def _add_attach(commands: Subcommands) -> None:
    what = "upload files to a case of a running service; SUPPORT_TOKEN authenticates"
    command = commands.add("attach", what, "attach:attach")
    command.usage = "support-service attach [-h] [--base-url URL] [--internal] CASE FILE [FILE ...]"
    command.add_argument("case", metavar="CASE", type=argument_types.case_id, help="the id of the case")
    # The command itself requires a file: its error says that the id of the case may be missing, rather than the file.
    command.add_argument("files", metavar="FILE", nargs="*", type=Path, help="file to upload")
    command.add_argument(
        "--base-url",
        type=argument_types.base_url,
        metavar="URL",
        help="URL of the service (default: http://SUPPORT_HOST:SUPPORT_PORT, http://127.0.0.1:8000)",
    )
    command.add_argument(  # the former name
        "--url", dest="base_url", type=argument_types.base_url, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    command.add_argument("--internal", action="store_true", help="visible to agents only, never to customers")


def _add_offload(commands: Subcommands) -> None:
    what = "move files from the local disk to S3; each copy is read back and compared first"
    command = commands.add("offload", what, "offload:offload")
    command.add_argument(
        "--older-than",
        type=argument_types.duration,
        metavar="AGE",
        help="minimum age of the files, such as 30d (default: SUPPORT_OFFLOAD_AFTER or 30d; with --reverse: 0s)",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="move nothing, only print the number and size of the files"
    )
    command.add_argument("--limit", type=argument_types.positive_int, metavar="N", help="move at most this many files")
    command.add_argument("--rate", type=argument_types.byte_rate, metavar="RATE", help="maximum rate, such as 50MB/s")
    command.add_argument("--reverse", action="store_true", help="move files from S3 back to the local disk")


def _add_sweep(commands: Subcommands) -> None:
    what = "compare rows, files and the ledger"
    repairs = f"{what}, and make safe repairs; exit status 1 if a file is missing or damaged"
    command = commands.add("sweep", what, "attachments:sweep", description=repairs)
    command.add_argument("--dry-run", action="store_true", help="repair nothing, only print the differences")


def _add_scrub(commands: Subcommands) -> None:
    what = "hash stored files again and compare with their recorded SHA-256; exit status 1 if a file differs"
    command = commands.add("scrub", what, "attachments:scrub")
    command.add_argument(
        "--sample",
        type=argument_types.share,
        default=1.0,
        metavar="SHARE",
        help="check only a random share of the files, such as 1%% (default: 100%%)",
    )


def _add_retention(commands: Subcommands) -> None:
    what = "delete the files of cases that were closed or resolved long ago; each deletion is recorded in the database"
    command = commands.add("retention", what, "attachments:retention")
    command.add_argument(
        "--older-than",
        type=argument_types.duration,
        required=True,
        metavar="AGE",
        help="minimum time since the last change of the case and of the file, such as 365d",
    )
    command.add_argument(
        "--status",
        action="append",
        choices=("closed", "resolved"),
        help="status of the cases; repeatable (default: closed)",
    )
    command.add_argument(
        "--limit", type=argument_types.positive_int, metavar="N", help="delete at most this many files"
    )
    command.add_argument("--dry-run", action="store_true", help="delete nothing, only list the files")
