"""Imports that tests run, and exports that they import."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from support_service.attachments.storage.base import AttachmentStorage
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.core.domain.principals import Principal
from support_service.core.errors import SupportError
from support_service.importing.entries import Entries, Entry, read_lines
from support_service.importing.files import ImportedFiles
from support_service.importing.imported_case import Mapper, keep_as_it_is
from support_service.importing.importer import Importer, ImportTotals
from support_service.platform.database import Database
from support_service.platform.settings.resources import AttachmentSettings
from support_service.platform.unit_of_work import WriteOrigin

OPERATOR = WriteOrigin(Principal("operator ann", "supervisor"))
Refusals = list[tuple[int, str, list[str]]]
"""The place, the code and the fields of each refused case."""


def write_lines(path: Path, cases: Iterable[Any]) -> Path:
    """Write cases as JSON Lines; a case may be given as bytes."""
    lines = (case if isinstance(case, bytes) else json.dumps(case).encode() for case in cases)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


class ImportRunner:
    """Runs imports into one database and one storage, with files from one folder."""

    def __init__(self, database: Database, folder: Path, directory: Path) -> None:
        self.database, self.folder = database, folder
        self.storage: AttachmentStorage = LocalAttachmentStorage(directory)
        self.refusals: Refusals = []
        self.missing = 0
        self.batches: list[int] = []  # the bytes of each batch of the last import

    async def run_lines(self, cases: Iterable[Any], **options: Any) -> ImportTotals:
        """Import cases from a file of JSON Lines; return the totals."""
        path = write_lines(self.folder / "cases.jsonl", cases)
        with path.open("rb") as file:
            return await self.run(read_lines(file), keep_as_it_is, **options)

    async def run(
        self, entries: Entries, mapper: Mapper, *, skip_missing: bool = False, dry_run: bool = False, **limits: Any
    ) -> ImportTotals:
        await self.storage.open()
        self.refusals, self.batches = [], []
        upload_limits = AttachmentSettings(**({"max_bytes": 1_000_000} | limits))
        files = ImportedFiles(self.folder, self.storage, upload_limits, skip_missing=skip_missing)
        options = {"synthetic_channels": ("synthetic",), "dry_run": dry_run, "refuse": self._note_refusal}
        importer = Importer(self.database, files, OPERATOR, **options)
        await importer.run(entries, mapper, self.batches.append)
        self.missing = files.missing
        return importer.totals

    def _note_refusal(self, entry: Entry, failure: SupportError) -> None:
        self.refusals.append((entry.place, failure.code, [field.field for field in failure.errors]))
