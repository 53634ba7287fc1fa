"""An imported case: the fields that are accepted, and the case with its messages and files as they are stored."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from support_service.cases.model.case import MAX_CONVERSATION_BYTES, CaseSummary, Message
from support_service.cases.model.files import MAX_FILENAME_BYTES
from support_service.cases.model.requests import NewCase, NewMessage, RequestModel
from support_service.cases.model.vocabulary import (
    EARLIEST_TIME,
    MAX_LINKS,
    ExternalId,
    Json,
    Moment,
    NewSentAt,
    ShownLinkKind,
    Status,
    Visibility,
)
from support_service.cases.sql.import_rows import CaseHistory
from support_service.cases.sql.link_rows import StoredLink
from support_service.core.clock import utc_now
from support_service.core.domain.case_vocabulary import BOT, PENDING
from support_service.core.errors import FieldError, SupportError, field_errors, problem
from support_service.core.ids import new_id
from support_service.core.json_input import with_camel_case_names
from support_service.desk.customer_models import CustomerContent
from support_service.guard.json_body import INVALID_REQUEST
from support_service.importing.entries import KeptIds

MAX_FILES_PER_CASE = 1000  # per case, as in the API
MAX_VERSION = 2**31 - 2**20  # of a case that was deleted; the column has 32 bits
MAX_PATH_LENGTH = 4096  # characters
CaseId = Annotated[str, Field(pattern="^[A-Za-z0-9_][A-Za-z0-9._-]{0,35}$")]
FilePath = Annotated[str, Field(min_length=1, max_length=MAX_PATH_LENGTH)]


class ImportedFile(RequestModel):
    """A file of an imported case; `path` is relative to the folder of the imported file."""

    model_config = ConfigDict(extra="forbid")

    path: FilePath
    filename: Annotated[str, Field(min_length=1, max_length=MAX_FILENAME_BYTES)] | None = None
    content_type: Annotated[str, Field(max_length=255)] | None = None
    visibility: Visibility | None = None
    sent_at: NewSentAt | None = None


class ImportedLink(RequestModel):
    """A link of an imported case, as this case sees it."""

    model_config = ConfigDict(extra="forbid")

    kind: ShownLinkKind
    case_id: CaseId
    created_at: NewSentAt | None = None


class ImportedMessage(NewMessage):
    """A message of an imported case; `attachment` and `attachments` are paths of the case's files that it names."""

    model_config = ConfigDict(extra="forbid")

    attachment: FilePath | None = None
    attachments: Annotated[list[FilePath], Field(max_length=MAX_FILES_PER_CASE)] = Field([])

    @field_validator("attachment_ids")
    @classmethod
    def _refuse_attachment_ids(cls, _: object) -> object:
        raise ValueError("can't be imported: files get their ids here. Name them by their paths in `attachments`")

    @property
    def named_files(self) -> list[str]:
        return list(dict.fromkeys([*([self.attachment] if self.attachment else []), *self.attachments]))


def _path_as_object(file: object) -> object:
    return {"path": file} if isinstance(file, str) else file


class ImportedCase(NewCase):
    """A case with its conversation and files. Unknown fields are refused, so that no misspelled one is lost."""

    model_config = ConfigDict(extra="forbid")

    id: CaseId | None = None
    version: Annotated[int, Field(ge=1, le=MAX_VERSION)] | None = None
    external_id: ExternalId
    customer: CustomerContent | None = None  # the record of the customer, who may have another one here
    status: Status = "open"
    closed_at: NewSentAt | None = None
    snoozed_until: Moment | None = None  # one that has passed opens the case once it is imported
    messages: list[ImportedMessage] = Field([])
    attachments: Annotated[
        list[Annotated[ImportedFile, BeforeValidator(_path_as_object)]], Field(max_length=MAX_FILES_PER_CASE)
    ] = Field([])
    links: Annotated[list[ImportedLink], Field(max_length=MAX_LINKS)] = Field([])

    @field_validator("snoozed_until")
    @classmethod
    def _check_is_pending(cls, until: datetime | None, checked: ValidationInfo) -> datetime | None:
        if until is not None and checked.data.get("status", PENDING) != PENDING:
            raise ValueError("can be imported only with the status `pending`, which a snoozed case has")
        if until is not None and until < EARLIEST_TIME:
            raise ValueError("must not be before 1970")
        return until


# What mappers raise for a document that is not in the form of the other system.
UNEXPECTED_FORM_ERRORS = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)
Mapper = Callable[[Json], Json]
"""Returns a document of another system as the JSON of an ImportedCase. Raises ValidationFailed."""


def keep_as_it_is(document: Json) -> Json:
    """Return the document: the mapper of the service's own format."""
    return document


def parse_case(document: object, mapper: Mapper) -> ImportedCase:
    """Return the case of a document.

    Raises ValidationFailed with every field that breaks a rule, and for JSON in a text that can't be read.
    """
    if not isinstance(document, dict):
        raise problem("invalid_request", "A case must be a JSON object.")
    try:
        mapped = mapper(document)
    except UNEXPECTED_FORM_ERRORS as failure:
        raise problem("invalid_request", "The case is not in the form of the export.") from failure
    try:
        return ImportedCase.model_validate(_with_field_names(mapped))
    except ValidationError as failure:
        raise problem("invalid_request", INVALID_REQUEST, field_errors(failure)) from None


def _with_field_names(sent: Json) -> Json:
    """Return a case with the names of fields in camelCase. Raises ValidationFailed for contradicting names."""
    renamed, errors = with_camel_case_names(ImportedCase, sent)
    assert isinstance(renamed, dict)  # noqa: S101 - so was `sent`
    messages = renamed.get("messages")
    if isinstance(messages, list):
        found = [with_camel_case_names(NewMessage, message) for message in messages]
        renamed["messages"] = [message for message, _ in found]
        errors += [error for _, each in found for error in each]
    if errors:
        raise problem("invalid_request", INVALID_REQUEST, errors)
    return renamed


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
    messages_by_file: dict[str, list[Message]]  # the messages that name a file, by its path
    customer: CustomerContent | None = None
    links: Sequence[StoredLink] = ()

    @property
    def case(self) -> CaseSummary:
        return self.history.case

    def leave_out(self, file: FileToImport) -> None:
        self.files.remove(file)
        times = self.history.public_files if file.visibility == "public" else self.history.internal_files
        times.remove(file.created_at)


def build_case(imported: ImportedCase, kept: KeptIds, synthetic_channels: Collection[str]) -> CaseToImport:
    """Return a case with its original times: `sentAt`, the times of its messages, and `closedAt`.

    Messages are in the order of their times; a message without a time gets the time of the message before it. Raises
    ValidationFailed if an external id or a path is given twice, or a message names a file that the case does not have.
    Raises Conflict for a conversation that is too long.
    """
    now = utc_now()
    dated = _dated_messages(imported, now)
    opened = min(dated[0][0], imported.sent_at or now, now) if dated else min(imported.sent_at or now, now)
    case_id = kept.case or imported.id or new_id()
    messages = [_build_message(case_id, imported.customer_id, each, at) for at, each in dated]
    naming: dict[str, list[Message]] = {}
    for message, (_, each) in zip(messages, dated, strict=True):
        for path in each.named_files:
            naming.setdefault(path, []).append(message)
    files = [_build_file(file, naming.get(file.path, []), opened, now, kept) for file in imported.attachments]
    _check_unique("attachments", [file.sent.path for file in files])
    for visibility in ("public", "internal"):
        same = [each for each in messages if each.visibility == visibility]
        _check_unique("messages", [each.external_id for each in same if each.external_id])
    if unknown := naming.keys() - {file.sent.path for file in files}:
        raise _field_error("messages", f"{min(unknown)[:200]!r} is not among the `attachments` of the case")
    times = [message.created_at for message in messages if message.visibility == "public"]
    times += [file.created_at for file in files if file.visibility == "public"]
    times += [min(imported.closed_at, now)] if imported.closed_at else []
    case = CaseSummary.model_validate(
        imported.__dict__
        | {
            "id": case_id,
            "version": 1,
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
        former_version=imported.version or 0,
    )
    if history.conversation_bytes > MAX_CONVERSATION_BYTES:
        raise problem("case_full", f"The messages have more than {MAX_CONVERSATION_BYTES:,} bytes of JSON.")
    links = [StoredLink.new(case_id, each.kind, each.case_id, each.created_at or opened) for each in imported.links]
    return CaseToImport(history, files, naming, imported.customer, links)


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


def _build_message(case_id: str, customer_id: str | None, sent: ImportedMessage, at: datetime) -> Message:
    author_id = sent.author_id or {"customer": customer_id, "bot": BOT}.get(sent.author_type)
    fields = {**sent.__dict__, "id": new_id(), "ticket_id": case_id, "author_id": author_id, "created_at": at}
    return Message.model_validate(fields, by_name=True, by_alias=False)


def _build_file(
    sent: ImportedFile, naming: list[Message], opened: datetime, now: datetime, kept: KeptIds
) -> FileToImport:
    """Return a file. Without a visibility of its own it is internal if only internal notes name it."""
    visibility = sent.visibility
    if visibility is None:
        visibility = "internal" if naming and all(each.visibility == "internal" for each in naming) else "public"
    at = sent.sent_at or (naming[0].created_at if naming else opened)
    return FileToImport(kept.files.get(sent.path) or new_id(), sent, visibility, min(at, now))


def _check_unique(field: str, values: list[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise _field_error(field, f"{value[:200]!r} is given twice")
        seen.add(value)


def _field_error(field: str, message: str) -> SupportError:
    return problem("invalid_request", INVALID_REQUEST, [FieldError(field, message)])
