"""The `support-service attach` command: upload files to a case one at a time, each with its SHA-256 checksum."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from support_service.client import Attachment, ClientTimings, SupportClient, SupportError, Visibility
from support_service.client.uploads import printable
from support_service.commands.runtime.event_loop import run
from support_service.commands.runtime.progress import Progress, show_progress
from support_service.core.errors import ValidationFailed
from support_service.core.os_errors import describe_os_error
from support_service.core.urls import format_host
from support_service.platform.settings import ClientSettings, Settings

UPLOAD_FAILED_STATUS = 1  # exit status if an upload failed
TIMINGS = ClientTimings(attempt=60.0, deadline=10.0)  # a person waits: an unavailable service is reported soon


def attach(arguments: argparse.Namespace, environ: Mapping[str, str], timings: ClientTimings = TIMINGS) -> None:
    """Upload files to a case of a running service. Exit with status 1 if an upload failed.

    Raises ValidationFailed if the first argument is a file, and if there is no file.
    """
    _check_case(arguments.case, arguments.files)
    listening = Settings.load(environ).server
    host = format_host(listening.host)
    service = arguments.base_url or f"http://{host}:{listening.port}"
    client = SupportClient(service, headers=ClientSettings.of(environ).headers, timings=timings)
    visibility: Visibility = "internal" if arguments.internal else "public"
    sys.exit(run(_upload_all(client, arguments.case, arguments.files, visibility)))


def _check_case(case_id: str, files: Sequence[Path]) -> None:
    if _is_file(case_id):
        raise ValidationFailed(
            "wrong_case",
            f"the case id is empty or missing: {printable(case_id)!r} is a file, but CASE is the id of a case",
        )
    if not files:
        raise ValidationFailed("file_missing", f"no FILE is given to upload to the case {printable(case_id)!r}")


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a path, or not one
        return False


async def _upload_all(client: SupportClient, case_id: str, files: Sequence[Path], visibility: Visibility) -> int:
    """Upload files one after the other, print the URI or the error of each, and return the exit status."""
    failed = 0
    with show_progress("attach", sum(map(_size, files))) as bar:
        async with client:
            for path in files:
                try:
                    stored = await _upload(client, case_id, path, visibility, bar)
                except (OSError, SupportError) as failure:
                    failed += 1
                    print(f"support-service: {path}: {_failure_text(failure)}", file=sys.stderr)
                else:
                    fields = stored.model_dump(mode="json", by_alias=True)
                    bar.print(f"{printable(str(path))}: {stored.uri}", file=str(path), **fields)
    return UPLOAD_FAILED_STATUS if failed else 0


async def _upload(client: SupportClient, case_id: str, path: Path, visibility: Visibility, bar: Progress) -> Attachment:
    shown = 0

    def advance(sent: int, _total: int) -> None:
        nonlocal shown
        bar.advance(sent - shown)  # back, if the file is sent again
        shown = sent

    return await client.upload(case_id, path, visibility=visibility, progress=advance)


def _failure_text(failure: Exception) -> str:
    """Return a message that explains why an upload failed."""
    if isinstance(failure, OSError):
        return f"the file can't be opened: {describe_os_error(failure)}"
    return str(failure)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0  # the upload itself reports the error
