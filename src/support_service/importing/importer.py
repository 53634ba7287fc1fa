"""The import: entries are validated, and stored in batches of one transaction each."""

import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pydantic_core
import sqlalchemy as sa

from support_service.cases.links import restore_links
from support_service.cases.model.files import StoredAttachment
from support_service.cases.recorder import opening_changes
from support_service.cases.sql import import_rows
from support_service.core.clock import utc_now
from support_service.core.errors import SupportError, problem
from support_service.desk import customers
from support_service.desk.customer_models import CustomerContent
from support_service.importing import imported_case
from support_service.importing.entries import Entries, Entry
from support_service.importing.files import ImportedFiles
from support_service.importing.imported_case import CaseToImport, Mapper, parse_case
from support_service.platform.audit import log as audit
from support_service.platform.database import Database
from support_service.platform.database.failures import StatementError
from support_service.platform.durable_files import create_file
from support_service.platform.unit_of_work import WriteOrigin, unit_of_work

BATCH_CASES = 200  # per transaction, which on SQLite blocks all other writers
BATCH_BYTES = 1024 * 1024  # of messages; each counts at least 1 KiB
# SQLite's errors come from its driver, or from SQLAlchemy around it.
DATABASE_REFUSALS = (StatementError, sa.exc.DBAPIError, sqlite3.Error)


@dataclass(slots=True)
class ImportTotals:
    """How many cases were read, and what became of them. Cases that are already stored are not changed."""

    read: int = 0
    imported: int = 0
    already_stored: int = 0
    refused: int = 0


@dataclass(slots=True)
class _PendingCase:
    """A valid case of the batch, with the entry that it came from."""

    entry: Entry
    to_import: CaseToImport
    stored_files: list[StoredAttachment] = field(default_factory=list)  # its files, before their rows are inserted

    @property
    def external_key(self) -> tuple[str, str]:
        """The channel and the external id, by which a case is known."""
        return (self.to_import.case.channel, self.to_import.case.external_id or "")


class Importer:
    """Imports cases without events, service levels or metrics; the audit log gets one entry for each.

    A case with all its messages and files is committed at once. So a second run after an interruption finds it
    complete, or not at all.
    """

    def __init__(
        self,
        database: Database,
        files: ImportedFiles,
        origin: WriteOrigin,
        *,
        synthetic_channels: Collection[str] = (),
        dry_run: bool = False,
        refuse: Callable[[Entry, SupportError], None],
    ) -> None:
        self._database = database
        self._files = files
        self._origin = origin
        self._synthetic_channels = synthetic_channels
        self._dry_run = dry_run
        self._report_refusal = refuse
        self._progress: Callable[[int], None] = lambda _: None
        self._batch: dict[tuple[str, str], _PendingCase] = {}
        self._ids: set[str] = set()  # of the cases in the batch
        self._bytes = 0
        self._accepted: set[tuple[str, str]] = set()  # in a dry run: the names of cases that an import would store
        self.totals = ImportTotals()

    async def run(self, entries: Entries, mapper: Mapper, progress: Callable[[int], None] = lambda _: None) -> None:
        """Import all entries. `totals` counts also what was done before an error.

        `progress` is called with the size of what was done.

        Raises ValidationFailed where a list can't be read any further, after the import of what precedes it, and
        Unavailable.
        """
        self._progress = progress
        ended_early: SupportError | None = None
        try:
            async for entry in entries:
                self.totals.read += 1
                pending = self._prepare_case(entry, mapper)
                if pending is not None:
                    await self._add_to_batch(pending)
        except SupportError as failure:
            if failure.code != "malformed_json":
                raise
            ended_early = failure
        await self._store_batch()
        if ended_early is not None:
            raise ended_early

    def _prepare_case(self, entry: Entry, mapper: Mapper) -> _PendingCase | None:
        try:
            if entry.refusal is not None:
                raise entry.refusal
            return _PendingCase(
                entry,
                imported_case.build_case(parse_case(entry.document, mapper), entry.kept, self._synthetic_channels),
            )
        except SupportError as failure:
            self._refuse(entry, failure)
            self._progress(entry.size)
            return None

    async def _add_to_batch(self, pending: _PendingCase) -> None:
        """Add a case to the batch, after the batch is stored if it has a case of the same name or id."""
        if pending.external_key in self._batch or pending.to_import.case.id in self._ids:
            await self._store_batch()
        self._ids.add(pending.to_import.case.id)
        self._batch[pending.external_key] = pending
        self._bytes += pending.to_import.history.conversation_bytes
        if len(self._batch) >= BATCH_CASES or self._bytes >= BATCH_BYTES:
            await self._store_batch()

    async def _store_batch(self) -> None:
        batch, self._batch, self._ids, self._bytes = list(self._batch.values()), {}, set(), 0
        stored = await import_rows.find_existing_external_ids(self._database, [each.external_key for each in batch])
        new = [each for each in batch if each.external_key not in stored and each.external_key not in self._accepted]
        self.totals.already_stored += len(batch) - len(new)
        if self._dry_run:
            accepted = [
                each for each in new if self._accept_or_refuse(each, self._files.find_unreadable(each.to_import))
            ]
            self._accepted.update(each.external_key for each in accepted)
            self.totals.imported += len(accepted)
        else:
            failures = await self._files.store_files_of_cases(
                [each.to_import for each in new], [each.stored_files for each in new]
            )
            await self._store_cases(
                [each for each, failure in zip(new, failures, strict=True) if self._accept_or_refuse(each, failure)]
            )
        self._progress(sum(each.entry.size for each in batch))

    async def _store_cases(self, batch: list[_PendingCase]) -> None:
        """Store cases in one transaction; if the database refuses it, each in one of its own."""
        if not batch:
            return
        try:
            added = await self._commit(batch)
        except DATABASE_REFUSALS as failure:
            if len(batch) > 1:
                for each in batch:
                    await self._store_cases([each])
                return
            await self._files.discard(batch[0].stored_files)
            kind = type(getattr(failure, "orig", failure)).__name__  # without its text, which may quote values
            self._refuse(batch[0].entry, problem("invalid_request", f"The database does not accept the case: {kind}."))
            return
        self.totals.imported += len(added)
        for each in batch:
            if each.to_import.case.id not in added:  # another process added it meanwhile
                self.totals.already_stored += 1
                await self._files.discard(each.stored_files)

    async def _commit(self, batch: Sequence[_PendingCase]) -> set[str]:
        """Store cases with their files and audit entries; return the ids of the new ones."""
        async with unit_of_work(self._database, self._origin) as work:
            added = await import_rows.add_histories(work.tx, [each.to_import.history for each in batch])
            new = [each for each in batch if each.to_import.case.id in added]
            await customers.add_absent(work.tx, _customers_of(new))
            await restore_links(work.tx, {each.to_import.case.id: each.to_import.links for each in new})
            at = utc_now()
            entries = [(each.to_import.case.id, at, _audited_changes(each.to_import)) for each in new]
            await audit.record_all(work, "case.imported", entries)
            await self._files.add_rows(work.tx, [attachment for each in new for attachment in each.stored_files])
        return added

    def _accept_or_refuse(self, pending: _PendingCase, failure: SupportError | None) -> bool:
        if failure is not None:
            self._refuse(pending.entry, failure)
        return failure is None

    def _refuse(self, entry: Entry, failure: SupportError) -> None:
        self.totals.refused += 1
        self._report_refusal(entry, failure)


def _customers_of(cases: Sequence[_PendingCase]) -> dict[str, CustomerContent]:
    """Return the customers of cases who are described, by their ids."""
    imported = [each.to_import for each in cases]
    return {each.case.customer_id: each.customer for each in imported if each.customer and each.case.customer_id}


def _audited_changes(case: CaseToImport) -> audit.FieldChanges:
    """Return the audit log's changes for an imported case: as for an opening, and how much was imported."""
    counts = {"messages": len(case.history.messages), "attachments": len(case.files)}
    return {**opening_changes(case.case), **{name: (None, count) for name, count in counts.items()}}


class RefusalFile:
    """A file with refused cases, readable by its owner only. It is empty at first, and removed if it stays empty."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def __enter__(self) -> Self:
        self._file = create_file(self.path, replaces=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self.count == 0 and self.path.is_file() and not self.path.is_symlink():
            self.path.unlink()

    def add(self, place: int, document: object, failure: SupportError) -> None:
        """Add a refused case, `document`, which is None if its line can't be read."""
        refused: dict[str, Any] = {"line": place, "code": failure.code, "reason": failure.detail}
        if failure.errors:
            refused["errors"] = [{"field": each.field, "message": each.message} for each in failure.errors]
        if document is not None:
            refused["case"] = document
        self._file.write(pydantic_core.to_json(refused, inf_nan_mode="null") + b"\n")
        self.count += 1
