"""An imported case as the rows that are stored: ids, times, and the visibility of its files."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from support_service.cases.model.case import MAX_CONVERSATION_BYTES, CaseSummary, Message
from support_service.cases.model.vocabulary import Visibility
from support_service.cases.sql.import_rows import CaseHistory
from support_service.core.clock import utc_now
from support_service.core.errors import Conflict, FieldError, ValidationFailed
from support_service.core.ids import new_id
from support_service.guard.json_body import INVALID_REQUEST
from support_service.importing.entries import KeptIds
from support_service.importing.model import ImportedCase, ImportedFile, ImportedMessage


@dataclass(slots=True)
class FileToImport:
    """A file of a case, with what its attachment will have."""

    id: str
    sent: ImportedFile
    visibility: Visibility
    created_at: datetime


@dataclass(slots=True)
class CaseToImport:
    """A case with its messages, as they are stored, and with its files, whose bytes are not stored yet."""

    history: CaseHistory
    files: list[FileToImport]
    naming: dict[str, list[Message]]  # the messages that name a file, by its path

    @property
    def case(self) -> CaseSummary:
        """The case."""
        return self.history.case

    def leave_out(self, file: FileToImport) -> None:
        """Leave out a file that is missing."""
        self.files.remove(file)
        times = self.history.public_files if file.visibility == "public" else self.history.internal_files
        times.remove(file.created_at)


def build(imported: ImportedCase, kept: KeptIds, synthetic_channels: Collection[str]) -> CaseToImport:
    """Return a case with its original times: those of its `sentAt`, messages and `closedAt`.

    Messages are in the order of their times; one without a time has that of the message before it. Raises
    ValidationFailed (an external id or a path is given twice, or a message names a file that the case does not have),
    and Conflict for a conversation that is too long.
    """
    now = utc_now()
    dated = _dated_messages(imported, now)
    opened = min(dated[0][0], imported.sent_at or now, now) if dated else min(imported.sent_at or now, now)
    case_id = kept.case or new_id()
    messages = [_message(case_id, each, at) for at, each in dated]
    naming: dict[str, list[Message]] = {}
    for message, (_, each) in zip(messages, dated, strict=True):
        for path in each.named_files:
            naming.setdefault(path, []).append(message)
    files = [_file(file, naming.get(file.path, []), opened, now, kept) for file in imported.attachments]
    _expect_unique("attachments", [file.sent.path for file in files])
    _expect_unique("messages", [message.external_id for message in messages if message.external_id])
    if unknown := naming.keys() - {file.sent.path for file in files}:
        raise _invalid("messages", f"{min(unknown)[:200]!r} is not among the `attachments` of the case")
    times = [message.created_at for message in messages if message.visibility == "public"]
    times += [file.created_at for file in files if file.visibility == "public"]
    times += [min(imported.closed_at, now)] if imported.closed_at else []
    case = CaseSummary.model_validate(
        imported.__dict__
        | {
            "id": case_id,
            "created_at": opened,
            "updated_at": max(times, default=opened),
            "synthetic": imported.channel in synthetic_channels,
        },
        by_name=True,
        by_alias=False,
    )
    history = CaseHistory(
        case,
        messages,
        [file.created_at for file in files if file.visibility == "public"],
        [file.created_at for file in files if file.visibility == "internal"],
    )
    if history.conversation_bytes > MAX_CONVERSATION_BYTES:
        raise Conflict("case_full", f"The messages have more than {MAX_CONVERSATION_BYTES:,} bytes of JSON.")
    return CaseToImport(history, files, naming)


def _dated_messages(imported: ImportedCase, now: datetime) -> list[tuple[datetime, ImportedMessage]]:
    sent = list(imported.messages)
    if imported.initial_message:
        sent.insert(0, ImportedMessage.model_construct(**imported.initial_message.__dict__, attachment=None))
    at = min(imported.sent_at or now, now)
    if imported.sent_at is None:
        at = min([each.sent_at for each in sent if each.sent_at], default=at)
    dated = []
    for each in sent:
        at = min(each.sent_at or at, now)
        dated.append((at, each))
    return sorted(dated, key=lambda pair: pair[0])  # the order of the file for messages of the same time


def _message(case_id: str, sent: ImportedMessage, at: datetime) -> Message:
    fields = {**sent.__dict__, "id": new_id(), "ticket_id": case_id, "created_at": at}
    return Message.model_validate(fields, by_name=True, by_alias=False)


def _file(sent: ImportedFile, naming: list[Message], opened: datetime, now: datetime, kept: KeptIds) -> FileToImport:
    """Return a file. Without a visibility of its own it is internal if only internal notes name it."""
    visibility = sent.visibility
    if visibility is None:
        visibility = "internal" if naming and all(each.visibility == "internal" for each in naming) else "public"
    at = sent.sent_at or (naming[0].created_at if naming else opened)
    return FileToImport(kept.files.get(sent.path) or new_id(), sent, visibility, min(at, now))


def _expect_unique(field: str, values: list[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise _invalid(field, f"{value[:200]!r} is given twice")
        seen.add(value)


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed("invalid_request", INVALID_REQUEST, [FieldError(field, message)])
