"""The archive of cases: sealed files in the format that the import reads, with the files of the cases beside them.

NAME.jsonl has a case on each line, and the folder NAME their files. NAME.sha256 has the SHA-256 of each in the form of
`sha256sum`, and the head of the audit log. The SHA-256 of NAME.sha256 is the seal: the audit log names it.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pydantic_core
from pydantic.alias_generators import to_camel

from support_service.attachments.storage.base import AttachmentStorage, UnreadableFile, read_verified
from support_service.cases.model.case import Case, Message, SettableFields, SettableTexts
from support_service.cases.model.files import StoredAttachment
from support_service.cases.sql import attachment_rows, case_reading
from support_service.core.clock import format_time, utc_now
from support_service.core.errors import SupportError, Unavailable, problem
from support_service.desk.customers import read_content
from support_service.guard.json_body import parse_json
from support_service.importing.entries import MAX_LINE_BYTES, KeptIds
from support_service.importing.imported_case import build_case, keep_as_it_is, parse_case
from support_service.platform.audit import entry_rows
from support_service.platform.database import Database
from support_service.platform.durable_files import UNFINISHED, NewFile, create_file, flush_file, flush_folder

OWN_NAMES = "cases-????????T??????-??????"
_CASE_FIELDS = (*SettableTexts.model_fields, "customer_id", "status", "channel", *SettableFields.model_fields)
_MESSAGE_FIELDS = ("author_type", "author_id", "message", "sentiment", "metadata", "visibility", "external_id")


class CaseArchive:
    """Stores cases in sealed files of one folder, which one process at a time uses.

    A case that the import would refuse, or whose files can't be read, is left out and reported.
    """

    def __init__(
        self,
        folder: Path,
        database: Database,
        storages: Mapping[str, AttachmentStorage],
        refuse: Callable[[str, SupportError], None],
    ) -> None:
        self._folder = folder
        self._database = database
        self._storages = storages
        self._refuse = refuse

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Lock the folder for a `with` block, and delete what an interrupted run left in it.

        The cases of a file without a seal are still in the database. Raises SupportError if another process holds it.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                text = f"Another process writes to {self._folder}: wait for its end"
                raise problem("archive_in_use", text) from None
            for left in self._folder.glob(f"{OWN_NAMES}.jsonl{UNFINISHED}"):  # not what others have there
                self._delete_unsealed(left.name.partition(".")[0])
            yield
        finally:
            os.close(descriptor)

    async def store(self, case_ids: Sequence[str]) -> tuple[str, dict[str, int]]:
        """Store cases in one sealed file; return the seal, and the versions of the stored cases by their ids."""
        at = utc_now()
        name = f"cases-{at:%Y%m%dT%H%M%S-%f}"
        try:
            return await self._store(name, at, case_ids)
        except BaseException:
            self._delete_unsealed(name)
            raise

    def _delete_unsealed(self, name: str) -> None:
        shutil.rmtree(self._folder / name, ignore_errors=True)
        for path in self._folder.glob(f"{name}.*"):
            path.unlink()

    async def _store(self, name: str, at: datetime, case_ids: Sequence[str]) -> tuple[str, dict[str, int]]:
        head, _ = await entry_rows.read_head_and_oldest_unsealed(self._database)
        versions: dict[str, int] = {}
        sums: list[str] = []
        folder = self._folder / name
        with NewFile(self._folder / f"{name}.jsonl") as new:
            digest = hashlib.sha256()
            for case_id in case_ids:
                stored = await case_reading.read(self._database, case_id, any_size=True)
                if stored is None:
                    continue
                try:
                    line, of_files = await self._write_case(folder, case_reading.to_case(stored))
                except SupportError as failure:
                    if isinstance(failure, Unavailable) and not isinstance(failure, UnreadableFile):
                        raise  # the storage can't be reached, so that other cases would fail, too
                    shutil.rmtree(folder / case_id, ignore_errors=True)
                    with suppress(OSError):  # it has files of other cases, or does not exist
                        folder.rmdir()
                    self._refuse(case_id, failure)
                    continue
                digest.update(line)
                new.file.write(line)
                sums += of_files
                versions[case_id] = stored.version
            if not versions:
                return "", versions
            seal = "\n".join(
                [
                    f"# support-service: {len(versions)} cases and {len(sums)} files, {format_time(at)}",
                    f"# audit head: {head}",
                    f"{digest.hexdigest()}  {name}.jsonl",
                    *sums,
                    "",
                ]
            ).encode()
            with create_file(self._folder / f"{name}.sha256") as file:
                file.write(seal)
                flush_file(file)
            new.finish()
        return hashlib.sha256(seal).hexdigest(), versions

    async def _write_case(self, folder: Path, case: Case) -> tuple[bytes, list[str]]:
        """Write the files of a case, and return its line and the lines of its files for `sha256sum`.

        Raises SupportError if the import would refuse the line, and UnreadableFile.
        """
        files = await attachment_rows.list_by_case(self._database, case.id)
        paths = {each.id: f"{folder.name}/{case.id}/{number}" for number, each in enumerate(files, 1)}
        document = _document(case, files, paths)
        if case.customer_id and (content := await read_content(self._database, case.customer_id)):
            document["customer"] = content.model_dump(by_alias=True, exclude_none=True)
        line = pydantic_core.to_json(document, inf_nan_mode="constants") + b"\n"
        if len(line) > MAX_LINE_BYTES:
            raise problem("line_too_long", f"The case has more than {MAX_LINE_BYTES:,} bytes as JSON")
        build_case(parse_case(parse_json(line), keep_as_it_is), KeptIds(), ())
        if files:
            for made in (folder, folder / case.id):
                made.mkdir(mode=0o700, exist_ok=True)
            for each in files:
                await self._write_file(self._folder / paths[each.id], each)
            for written in (folder / case.id, folder):
                flush_folder(written)
        return line, [f"{each.sha256}  {paths[each.id]}" for each in files]

    async def _write_file(self, path: Path, attachment: StoredAttachment) -> None:
        """Write a file of a case, also if it is moved to another storage meanwhile. Raises UnreadableFile."""
        try:
            await self._write_bytes(path, attachment)
        except UnreadableFile:
            moved = await attachment_rows.get_by_id(self._database, attachment.id)
            if moved is None or moved.storage_key == attachment.storage_key:
                raise
            await self._write_bytes(path, moved)

    async def _write_bytes(self, path: Path, attachment: StoredAttachment) -> None:
        storage = self._storages.get(attachment.storage)
        if storage is None:
            raise problem("attachment_unreadable", f"The storage {attachment.storage} is not configured")
        blocks = read_verified(storage, attachment.storage_key, attachment.size_bytes, attachment.sha256)
        with create_file(path, replaces=True) as file:  # what an unreadable file has left
            async with aclosing(blocks):
                async for block in blocks:
                    file.write(block)
            flush_file(file)


def _document(case: Case, files: Sequence[StoredAttachment], paths: Mapping[str, str]) -> dict[str, Any]:
    """Return a case as the import reads it. A case without an external id has its own id as one."""
    document = {name: getattr(case, name) for name in _CASE_FIELDS}
    messages = [_message(each, paths) for each in case.messages]
    attachments = [
        {
            "path": paths[each.id],
            "filename": each.filename,
            "contentType": each.content_type,
            "visibility": each.visibility,
            "sentAt": each.created_at,
        }
        for each in files
    ]
    return {
        "id": case.id,
        "version": case.version,
        "externalId": case.external_id or case.id,
        **{to_camel(name): value for name, value in document.items() if value is not None},
        "sentAt": case.created_at,
        "closedAt": case.updated_at,
        "messages": messages,
        "attachments": attachments,
        **({"links": [each.model_dump(by_alias=True, exclude={"id"}) for each in case.links]} if case.links else {}),
    }


def _message(message: Message, paths: Mapping[str, str]) -> dict[str, Any]:
    """Return a message as the import reads it. It names the files that exist by their paths."""
    uri = message.attachment_uri
    named = [paths[each] for each in message.attachment_ids if each in paths]
    if uri and not named:  # of an earlier release
        named = [path for file, path in paths.items() if f"/{file}/" in uri]
    values = {name: getattr(message, name) for name in _MESSAGE_FIELDS} | {"attachments": named or None}
    return {
        **{to_camel(name): value for name, value in values.items() if value is not None},
        **({"attachmentUri": uri} if uri and not named else {}),
        "sentAt": message.sent_at or message.created_at,
    }
