"""CaseService: each change is applied completely or not at all, on both databases, and counted once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from pydantic_core import to_json

from support_service.cases.model.files import StoredAttachment
from support_service.cases.model.requests import CaseChange, Closing, NewCase, NewMessage, StatusChange
from support_service.cases.sql import attachment_rows, case_rows
from support_service.cases.sql.case_reading import to_case
from support_service.cases.sql.case_rows import MIN_MESSAGE_BYTES
from support_service.core.domain.principals import SYSTEM
from support_service.core.errors import Conflict, NotFound
from support_service.events.consumer import EVENT_ID_RETENTION, delete_expired
from support_service.platform.database.tables import inbound_events, tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.cases import stored_case

pytestmark = both_databases
NEW = NewCase.model_validate({"subject": "A", "channel": "email", "context": {"type": "order", "id": 7}})
HELLO = NewMessage.model_validate({"authorType": "agent", "message": "Hello"})


async def test_opened_case_equals_the_case_that_is_read(service):
    opened = await service.open_case(SYSTEM_ORIGIN, NEW.model_copy(update={"initial_message": HELLO}))
    assert await stored_case(service, opened.id) == opened


async def test_failed_closing_changes_nothing(service):
    """If the last message cannot be stored, the case stays open."""
    case = await service.open_case(SYSTEM_ORIGIN, NEW)
    closing = Closing.model_construct(message="Bye", author_type=None)  # both databases refuse this
    with pytest.raises(Exception):  # noqa: B017 - each database raises its own exception
        await service.close_case(SYSTEM_ORIGIN, case.id, closing)
    assert await stored_case(service, case.id) == case


async def conversation_bytes(database, case):
    statement = sa.select(tickets.c.conversation_bytes).where(tickets.c.id == case.id)
    return (await database.fetch_now(statement))[0]


def json_size(messages):
    """Return the size of messages as JSON; a small message counts with the minimum size."""
    return sum(max(MIN_MESSAGE_BYTES, len(to_json(message, by_alias=True))) for message in messages)


async def test_conversation_size_counts_every_message(service, database):
    """The first, an added and the closing message count with their bytes as JSON.

    PostgreSQL returns numbers without exponents, so they count in full.
    """
    silent = await service.open_case(SYSTEM_ORIGIN, NEW)
    assert await conversation_bytes(database, silent) == 0
    case = await service.open_case(SYSTEM_ORIGIN, NEW.model_copy(update={"initial_message": HELLO}))
    assert await conversation_bytes(database, case) == json_size(case.messages) > 0
    await service.add_message(
        SYSTEM_ORIGIN, case.id, HELLO.model_copy(update={"message": "đ\t", "metadata": {"a": ["đ"] * 1000}})
    )
    closed = to_case(await service.close_case(SYSTEM_ORIGIN, case.id, Closing(message="Bye")))
    assert len(closed.messages) == 3
    assert await conversation_bytes(database, case) == json_size(closed.messages)
    numbers = HELLO.model_copy(update={"metadata": {"a": [1e308] * 100 + [5e-324] * 100}})
    await service.add_message(SYSTEM_ORIGIN, silent.id, numbers)
    assert 100 * (309 + 326) < await conversation_bytes(database, silent) < 100 * (310 + 327) + 500


async def test_message_to_a_full_case_is_refused(service, database, constants):
    """This holds for concurrent messages and for a closing message, and nothing changes."""
    case = await service.open_case(SYSTEM_ORIGIN, NEW.model_copy(update={"initial_message": HELLO}))
    constants("cases.service", MAX_CONVERSATION_BYTES=3 * json_size(case.messages))
    results = await asyncio.gather(
        *(service.add_message(SYSTEM_ORIGIN, case.id, HELLO) for _ in range(5)), return_exceptions=True
    )
    refusals = [each for each in results if isinstance(each, Conflict)]
    assert [refusal.code for refusal in refusals] == ["case_full"] * 3
    full = await stored_case(service, case.id)
    assert (len(full.messages), full.version) == (3, 3)
    customer_message = HELLO.model_copy(update={"author_type": "customer"})
    closing = Closing(message="Bye", metadata={"a": 1})
    for attempt in (
        service.add_message(SYSTEM_ORIGIN, case.id, customer_message),
        service.close_case(SYSTEM_ORIGIN, case.id, closing),
    ):
        with pytest.raises(Conflict, match="full; open another case") as refusal:
            await attempt
        assert refusal.value.code == "case_full"
    assert await stored_case(service, case.id) == full
    assert await conversation_bytes(database, case) == json_size(full.messages)
    assert to_case(await service.close_case(SYSTEM_ORIGIN, case.id, Closing())).status == "closed"


async def test_concurrent_changes_of_different_fields_are_all_applied(service):
    case = await service.open_case(SYSTEM_ORIGIN, NEW)
    changes = [{"subject": "B"}, {"priority": "high"}, {"tags": ["x"]}, {"assignedAgentId": "a"}, {"status": "pending"}]
    await asyncio.gather(
        *(service.change_case(SYSTEM_ORIGIN, case.id, CaseChange.model_validate(change)) for change in changes),
        *(service.add_message(SYSTEM_ORIGIN, case.id, HELLO) for _ in range(10)),
    )
    case = await stored_case(service, case.id)
    assert (case.subject, case.priority, case.tags, case.assigned_agent_id) == ("B", "high", ["x"], "a")
    assert (case.status, len(case.messages)) == ("pending", 10)


async def test_concurrent_closings_change_the_status_once(service):
    """Each client gets the closed case."""
    case = await service.open_case(SYSTEM_ORIGIN, NEW)
    closed = await asyncio.gather(
        *(service.set_status(SYSTEM_ORIGIN, case.id, StatusChange(status="closed")) for _ in range(10))
    )
    assert len({ticket.updated_at for ticket in closed}) == 1


async def test_every_use_case_raises_not_found_for_an_unknown_case(service):
    """This holds for any form of the id."""
    for case_id in ("nobody", "\0", "x" * 37, "", "đ"):
        for use in (
            service.read_case(SYSTEM, case_id),
            service.read_case(SYSTEM, case_id, any_size=True),
            service.read_case_page(SYSTEM, case_id, None, 1),
            service.change_case(SYSTEM_ORIGIN, case_id, CaseChange.model_validate({"subject": "B"})),
            service.set_status(SYSTEM_ORIGIN, case_id, StatusChange(status="closed")),
            service.close_case(SYSTEM_ORIGIN, case_id, Closing()),
            service.add_message(SYSTEM_ORIGIN, case_id, HELLO),
        ):
            with pytest.raises(NotFound):
                await use


async def test_synthetic_case_is_removed_with_its_files_or_not_at_all(service, database, monkeypatch):
    """Case and files are removed in one transaction."""
    case = await service.open_case(SYSTEM_ORIGIN, NEW.model_copy(update={"channel": "synthetic"}))
    file = StoredAttachment("file-1", case.id, "a.txt", "text/plain", 1, "", "local", "key-1", case.created_at)
    async with database.transaction() as tx:
        await attachment_rows.add(tx, file, 1)

    async def fail(tx, _):
        assert await attachment_rows.list_by_case(tx, case.id) == []
        raise ValueError("no row")

    with monkeypatch.context() as patch:
        patch.setattr(case_rows, "delete", fail)
        with pytest.raises(ValueError, match="no row"):
            await service.remove_synthetic(SYSTEM_ORIGIN, case.id)
    kept = await stored_case(service, case.id)
    assert (kept.version, len(kept.attachments)) == (case.version, 1)
    assert await service.remove_synthetic(SYSTEM_ORIGIN, case.id) == [file]
    with pytest.raises(NotFound):
        await stored_case(service, case.id)


async def test_old_inbound_events_are_deleted_in_batches(database):
    """Unfinished events and new events stay."""
    now = datetime.now(UTC)
    old = now - EVENT_ID_RETENTION - timedelta(days=1)
    rows = [(f"old-{number}", old, True) for number in range(5)] + [("open", old, False), ("new", now, True)]
    async with database.transaction() as tx:
        row = {"source": "/s", "reached": 0}
        values = [row | {"id": each, "at": at, "done": done} for each, at, done in rows]
        await tx.execute(inbound_events.insert(), values)
    await delete_expired(database, batch=2)
    kept = await database.fetch_all(sa.select(inbound_events.c.id))
    assert sorted(each for (each,) in kept) == ["new", "open"]
