"""The `support-service attach` command: upload files to a case one at a time, each with its SHA-256 checksum."""

import argparse
import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import aiofiles
import aiohttp

from support_service.commands.runtime.event_loop import run
from support_service.commands.runtime.progress import Progress, show_progress
from support_service.core.errors import SupportError, Unavailable, ValidationFailed
from support_service.core.urls import format_host
from support_service.http.client_errors import describe_client_error
from support_service.settings import ClientSettings, Settings

BLOCK_BYTES = 256 * 1024  # bytes per write
UPLOAD_FAILED_STATUS = 1  # exit status if an upload failed


def attach(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Upload files to a case of a running service. Exit with status 1 if an upload failed.

    Raises ValidationFailed if the first argument is a file, and if there is no file.
    """
    _check_case(arguments.case, arguments.files)
    listening = Settings.load(environ).server
    host = format_host(listening.host)
    service = arguments.base_url or f"http://{host}:{listening.port}"
    visibility = "internal" if arguments.internal else "public"
    sys.exit(run(_upload_all(service, arguments.case, arguments.files, ClientSettings.of(environ).headers, visibility)))


def _check_case(case_id: str, files: Sequence[Path]) -> None:
    if _is_file(case_id):
        raise ValidationFailed(
            "wrong_case",
            f"the case id is empty or missing: {_printable_name(case_id)!r} is a file, but CASE is the id of a case",
        )
    if not files:
        raise ValidationFailed("file_missing", f"no FILE is given to upload to the case {_printable_name(case_id)!r}")


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a path, or not one
        return False


async def _upload_all(
    service: str, case_id: str, files: Sequence[Path], headers: Mapping[str, str], visibility: str
) -> int:
    """Upload files one after the other, print the URI or the error of each, and return the exit status."""
    address = f"{service}/support/cases/{quote(os.fsencode(case_id), safe='')}/attachments?visibility={visibility}"
    failed = 0
    with show_progress("attach", sum(map(_size, files))) as bar:
        timeout = aiohttp.ClientTimeout(sock_read=60, sock_connect=10)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            for path in files:
                try:
                    answer = await _upload(session, address, path, bar)
                except (OSError, SupportError, aiohttp.ClientError, TimeoutError) as failure:
                    failed += 1
                    print(f"support-service: {path}: {_failure_text(failure)}", file=sys.stderr)
                else:
                    bar.print(f"{_printable_name(str(path))}: {answer['uri']}", file=str(path), **answer)
    return UPLOAD_FAILED_STATUS if failed else 0


async def _upload(session: aiohttp.ClientSession, address: str, path: Path, bar: Progress) -> dict[str, str]:
    digest = await asyncio.to_thread(_hash, path)
    with aiohttp.MultipartWriter("form-data") as form:
        part = form.append(_blocks(path, bar))
        part.set_content_disposition("form-data", quote_fields=False, name="file", filename=_printable_name(path.name))
        part.headers["X-Checksum-Sha256"] = digest
        async with session.post(address, data=form) as response:
            body = await response.read()
    answer: dict[str, str] = json.loads(body) if "json" in response.content_type else {}
    if response.status != 201:  # noqa: PLR2004 - HTTP's Created
        raise Unavailable("upload_refused", answer.get("detail") or f"the service answered {response.status}")
    return answer


async def _blocks(path: Path, bar: Progress) -> AsyncIterator[bytes]:
    async with aiofiles.open(path, "rb") as file:
        while block := await file.read(BLOCK_BYTES):
            yield block
            bar.advance(len(block))


def _failure_text(failure: Exception) -> str:
    """Return a message that explains why an upload failed."""
    if isinstance(failure, OSError) and failure.filename is not None and failure.strerror:
        return f"the file can't be opened: {failure.strerror}"
    return str(failure) if isinstance(failure, SupportError) else describe_client_error(failure)


def _printable_name(name: str) -> str:
    """Return a file name as valid UTF-8 on one line, as headers and terminals require."""
    readable = os.fsencode(name).decode(errors="replace")
    return "".join(character for character in readable if character.isprintable())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0  # the upload itself reports the error


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
