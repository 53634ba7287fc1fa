"""Split: messages of a case, with the files that they name, become a case of their own.

The rows are moved, so that ids, times and authors stay. The new case has the link `split-from`, by which repeats of
moved messages and former addresses of moved files are found.
"""

import re
from collections.abc import Sequence
from functools import partial

from support_service.cases.links import check_number_of_links
from support_service.cases.model.case import Case, CaseSummary, Message, SettableFields
from support_service.cases.model.requests import Split
from support_service.cases.model.vocabulary import SPLIT_FROM
from support_service.cases.recorder import CaseRecorder, LockedCase
from support_service.cases.sql import case_reading, case_rows, link_rows, split_rows
from support_service.cases.sql.case_reading import NO_VERSION, StoredCase
from support_service.cases.sql.link_rows import StoredLink
from support_service.core.clock import time_after
from support_service.core.domain.case_vocabulary import AuthorType
from support_service.core.errors import FieldError, problem
from support_service.core.ids import new_id
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.platform.database import ContendedRow, Database, Row
from support_service.platform.unit_of_work import UnitOfWork, WriteOrigin, unit_of_work

# Fields that the new case has of the original, besides the context: the same people see the messages.
KEPT_FIELDS = ("customer_id", "channel", "synthetic", *SettableFields.model_fields)


class CaseSplitter:
    """Splits cases."""

    def __init__(self, database: Database, recorder: CaseRecorder) -> None:
        self._database = database
        self._recorder = recorder

    async def split(
        self, origin: WriteOrigin, case_id: str, split: Split, expected: ExpectedVersions = None
    ) -> tuple[str, StoredCase]:
        """Move messages of a case into a new one; return its id, and the case with its JSON and history.

        Raises NotFound, VersionConflict, and ValidationFailed for an id that is of no message of the case. Raises
        Conflict if nothing would be left of the case, or if it has too many links.
        """
        ids = list(dict.fromkeys(split.message_ids))
        async with unit_of_work(self._database, origin, ContendedRow(case_id)) as work:
            original = (await LockedCase.lock(work, self._recorder, case_id, expected)).current
            conversation = await split_rows.read_conversation(work.tx, case_id)
            rest = [each for each in conversation if each.id not in ids]
            _check_messages(split.message_ids, original, conversation, rest)
            check_number_of_links(await link_rows.find_by_cases(work.tx, [case_id]), [case_id])
            moved = await split_rows.read_messages(work.tx, case_id, ids)
            case = _to_new_case(original, split.subject, moved)
            work.note_answer(case.id)
            await self._open_case(work, case, moved)
            await self._move(work, original, case, moved, rest)
            await self._recorder.record_opening(work, case, None, split_from=case_id)
            await self._recorder.record_split(work, case_id, case.id, [each.id for each in moved], case.created_at)
            public_only = origin.principal.reads_only_public
            opened = await case_reading.read(
                work.tx, case.id, public_only=public_only, known_history=NO_VERSION, any_size=True
            )
        assert opened is not None  # noqa: S101 - this transaction has inserted it
        return case.id, opened

    async def _open_case(self, work: UnitOfWork, case: Case, moved: Sequence[Message]) -> None:
        """Insert the new case with its clocks, which start now, and its link."""
        answered_at, waiting_since = case_rows.answer_times(None, moved)
        author: AuthorType = "agent" if answered_at and waiting_since is None else "customer"
        started = None if case.synthetic else self._recorder.clocks.start_clocks(case, case.created_at, author)
        due_at = None
        if started:
            case.sla_policy, due_at = started.policy.id, started.first_due
        await split_rows.add_case(work.tx, case, moved, due_at)
        if started:
            await started.insert(work.tx, case.id)

    async def _move(
        self, work: UnitOfWork, original: CaseSummary, case: Case, moved: Sequence[Message], rest: Sequence[Row]
    ) -> None:
        """Move the messages and their files, and bring in step what both cases have of them."""
        tx = work.tx
        named = partial(_files_named, case_id=original.id)
        files = {file for each in moved for file in named(each)} - {file for each in rest for file in named(each)}
        for message in moved:
            message.attachment_uri = _with_new_address(message.attachment_uri, original.id, case.id, files)
        await split_rows.move_messages(tx, moved, case.id)
        await split_rows.move_notifications(tx, [each.id for each in moved], original.id, case.id)
        await split_rows.move_files(tx, files, original.id, case.id)
        is_described = original.description and await split_rows.was_opened_with_description(tx, original.id)
        opened_at = original.created_at if is_described else None
        _, waiting_since = case_rows.answer_times(opened_at, rest)
        await split_rows.update_original(tx, original.id, case.created_at, waiting_since, moved)
        if original.sla_policy is not None and waiting_since is None:
            await self._recorder.clocks.note_no_question(work, original.id, original.sla_policy, case.created_at)
        await link_rows.add(tx, StoredLink.new(case.id, SPLIT_FROM, original.id, case.created_at))
        await split_rows.index_messages(tx, (original.id, case.id))


def _check_messages(
    ids: Sequence[str], original: CaseSummary, conversation: Sequence[Row], rest: Sequence[Row]
) -> None:
    """Raise ValidationFailed for an id of another message, and Conflict if nothing would be left of the case."""
    known = {each.id for each in conversation}
    if unknown := [
        FieldError(f"messageIds.{index}", "is not the id of a message of this case")
        for index, each in enumerate(ids)
        if each not in known
    ]:
        detail = "These are not all messages of this case. Split a message of a duplicate from the duplicate."
        raise problem("invalid_request", detail, unknown)
    if not rest and not original.description:
        raise problem("split_leaves_nothing", "The case would have no message and no description. Leave a message.")


def _to_new_case(original: CaseSummary, subject: str, moved: Sequence[Message]) -> Case:
    """Return the new case, at the version that its messages have given it."""
    at = time_after(original.updated_at)
    values = {name: getattr(original, name) for name in KEPT_FIELDS} | {
        "id": new_id(),
        "subject": subject,
        "description": None,
        "status": "open",
        "context": [],
        "created_at": at,
        "updated_at": at,
        "version": 1 + len(moved),
        "messages": [],
        "attachments": [],
    }
    return Case.model_validate(values, by_name=True, by_alias=False)


def _files_named(message: Message | Row, case_id: str) -> set[str]:
    """Return the ids of files of a case that a message names."""
    in_uri = re.search(f"/support/cases/{re.escape(case_id)}/attachments/([0-9A-Za-z-]+)", message.attachment_uri or "")
    return {*message.attachment_ids, *([in_uri[1]] if in_uri else [])}


def _with_new_address(uri: str | None, from_case: str, to_case: str, files: set[str]) -> str | None:
    """Return the URI of a file after the files have moved to another case."""
    for file in files:
        former, new = (f"/support/cases/{each}/attachments/{file}" for each in (from_case, to_case))
        uri = uri and uri.replace(former, new)
    return uri
