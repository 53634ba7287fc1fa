"""What is read at the end of a run of histories: cases, files, and the audit log."""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any

from support_service.api.models.audit import AuditEntry
from support_service.client import Attachment, Case, SupportClient
from tests.support.calls import eventually
from tests.support.histories.clients import CHANNEL, LONG
from tests.support.histories.ending import FinalCase


def filters_of(status: str) -> dict[str, Any]:
    """Return the filters of the cases of all histories that have a status."""
    return {"status": [status], "channel": CHANNEL}


async def wait_until_all_are_awake(client: SupportClient) -> None:
    async def are_awake() -> bool:
        return not [case async for case in client.list_cases(snoozed=True)]

    await eventually(are_awake, LONG)


def final_case(case: Case) -> FinalCase:
    """Return a case without what its duplicates have."""
    texts = [message.message for message in case.messages if message.ticket_id == case.id]
    files = {file.id: file.sha256 for file in case.attachments if file.ticket_id == case.id}
    notes = [message.message for message in case.messages if message.visibility == "internal"]
    return FinalCase(case.version, case.status, texts, files, notes)


def statuses_after(entries: Iterable[AuditEntry]) -> Iterator[str]:
    """Yield the status of a case after each of its audit entries, which come oldest first."""
    status: Any = None
    for entry in entries:
        _, status = entry.changes.get("status", (None, status))
        yield status


async def digest_of(client: SupportClient, file: Attachment) -> str:
    return sha256(b"".join([block async for block in client.download(file)])).hexdigest()


async def read_audit(client: SupportClient, case_id: str) -> list[AuditEntry]:
    """Return the audit entries of a case, oldest first, once each has its position in the chain."""
    entries: list[AuditEntry] = []

    async def are_sealed() -> bool:
        entries[:] = [entry async for entry in client.list_audit(case_id)][::-1]
        return all(entry.position for entry in entries)

    await eventually(are_sealed, LONG)
    return entries
