"""The `support-service attach` command: upload files to a case one at a time, each with its SHA-256 checksum."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from support_service.commands import grammar
from support_service.commands.output import Progress, show_progress
from support_service.commands.runtime import load_settings, run_coroutine
from support_service.core.errors import problem
from support_service.core.http import format_host

if TYPE_CHECKING:
    from support_service.client import Attachment, ClientTimings, SupportClient, Visibility

UPLOAD_FAILED_STATUS = 1  # exit status if an upload failed


def add_to(commands: grammar.Subcommands) -> None:
    """Add `attach` to the commands."""
    what = "upload files to a case of a running service; SUPPORT_TOKEN authenticates"
    command = commands.add("attach", what, attach)
    command.is_intermixed = True
    command.usage = "support-service attach [-h] [--base-url URL] [--internal] CASE FILE [FILE ...]"
    command.add_argument("case", metavar="CASE", type=grammar.case_id, help="the id of the case")
    # The command itself requires a file: its error says that the id of the case may be missing, rather than the file.
    command.add_argument("files", metavar="FILE", nargs="*", type=Path, help="file to upload")
    command.add_argument(
        "--base-url",
        type=grammar.base_url,
        metavar="URL",
        help="URL of the service (default: http://SUPPORT_HOST:SUPPORT_PORT, http://127.0.0.1:8000)",
    )
    command.add_argument("--internal", action="store_true", help="visible to agents only, never to customers")


def attach(arguments: argparse.Namespace, environ: Mapping[str, str], timings: "ClientTimings | None" = None) -> None:
    """Upload files to a case of a running service. Exit with status 1 if an upload failed.

    Raises SupportError if the first argument is a file, and if there is no file.
    """
    from support_service.client import ClientTimings, SupportClient
    from support_service.platform.settings import ClientSettings

    _check_case(arguments.case, arguments.files)
    listening = load_settings(environ).server
    host = format_host(listening.host)
    service = arguments.base_url or f"http://{host}:{listening.port}"
    default = ClientTimings(attempt=60.0, deadline=10.0)  # a person waits: an unavailable service is reported soon
    client = SupportClient(service, headers=ClientSettings.load(environ).headers, timings=timings or default)
    visibility: Visibility = "internal" if arguments.internal else "public"
    sys.exit(run_coroutine(_upload_all(client, arguments.case, arguments.files, visibility)))


def _check_case(case_id: str, files: Sequence[Path]) -> None:
    from support_service.client.files import printable_name

    if _is_file(case_id):
        raise problem(
            "wrong_case",
            f"the case id is empty or missing: {printable_name(case_id)!r} is a file, but CASE is the id of a case",
        )
    if not files:
        raise problem("file_missing", f"no FILE is given to upload to the case {printable_name(case_id)!r}")


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a path, or not one
        return False


async def _upload_all(client: "SupportClient", case_id: str, files: Sequence[Path], visibility: "Visibility") -> int:
    """Upload files one after the other, print the URI or the error of each, and return the exit status."""
    from support_service.client import SupportError
    from support_service.client.files import printable_name

    failed = 0
    with show_progress("attach", sum(map(_file_size, files))) as bar:
        async with client:
            for path in files:
                try:
                    stored = await _upload(client, case_id, path, visibility, bar)
                except (OSError, SupportError) as failure:
                    failed += 1
                    print(f"support-service: {path}: {_failure_text(failure)}", file=sys.stderr)
                else:
                    fields = stored.model_dump(mode="json", by_alias=True)
                    bar.print(f"{printable_name(str(path))}: {stored.uri}", file=str(path), **fields)
    return UPLOAD_FAILED_STATUS if failed else 0


async def _upload(
    client: "SupportClient", case_id: str, path: Path, visibility: "Visibility", bar: Progress
) -> "Attachment":
    shown = 0

    def advance(sent: int, _total: int) -> None:
        nonlocal shown
        bar.advance(sent - shown)  # back, if the file is sent again
        shown = sent

    return await client.upload(case_id, path, visibility=visibility, progress=advance)


def _failure_text(failure: Exception) -> str:
    if isinstance(failure, OSError):
        from support_service.core.os_errors import describe_os_error

        return f"the file can't be opened: {describe_os_error(failure)}"
    return str(failure)


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0  # the upload itself reports the error
