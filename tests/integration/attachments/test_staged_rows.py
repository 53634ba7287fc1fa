"""SQL of staged files, on both databases."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from support_service.attachments.garbage import claim_due_garbage
from support_service.cases.model.files import StoredAttachment
from support_service.cases.sql import attachment_rows
from support_service.cases.sql.attachment_rows import garbage_entry_of
from support_service.core.domain.principals import Principal
from support_service.platform.database.tables import garbage
from tests.conftest import both_databases
from tests.support.cases import AT, ticket

pytestmark = [both_databases, pytest.mark.usefixtures("cases")]
AGENT = Principal("lan", "agent", "agent-1", frozenset())
SAME_AGENT = Principal("lan's second token", "agent", "agent-1", frozenset())
OTHER = Principal("minh", "agent", "agent-2", frozenset())
HOUR = timedelta(hours=1)


@pytest.fixture
async def cases(add_cases):
    await add_cases(ticket(1), ticket(2))


def file(number, case=1):
    values = (f"file-{number}", f"case-{case}", "a.txt", "text/plain", number, "0" * 64, "local", f"key-{number}", AT)
    return StoredAttachment(*values, visibility="internal")


async def stage(database, *files, uploader=AGENT, until=AT + HOUR, most=10):
    async with database.transaction() as tx:
        return [await attachment_rows.add_staged(tx, each, uploader, until, most) for each in files]


async def found(database, uploader, *numbers, case="case-1", now=AT):
    ids = [f"file-{number}" for number in numbers]
    return sorted(each.size_bytes for each in await attachment_rows.list_staged(database, uploader, case, ids, now))


async def due_garbage(database, now):
    due = sa.select(garbage.c.storage_key).where(garbage.c.due_at <= now)
    return sorted(row.storage_key for row in await database.fetch_all(due))


async def test_staged_file_is_found_by_its_uploader_in_its_case_until_it_expires(database):
    """By any token of the uploader. Its bytes are garbage when it expires."""
    assert await stage(database, file(1)) == [True]
    for uploader, case, now, expected in (
        (AGENT, "case-1", AT, [1]),
        (SAME_AGENT, "case-1", AT + HOUR - timedelta(microseconds=1), [1]),
        (AGENT, "case-1", AT + HOUR, []),
        (AGENT, "case-2", AT, []),
        (OTHER, "case-1", AT, []),
    ):
        assert await found(database, uploader, 1, 2, case=case, now=now) == expected
    assert await attachment_rows.get_staged(database, "file-1") == file(1)
    assert await attachment_rows.get_staged(database, "file-2") is None
    assert await due_garbage(database, AT) == []
    assert await due_garbage(database, AT + HOUR) == ["key-1"]


async def test_number_of_staged_files_of_an_uploader_is_bounded(database):
    """In all cases together; staged files of others do not count."""
    assert await stage(database, file(1), file(2, case=2), file(3), most=2) == [True, True, False]
    assert await stage(database, file(4), uploader=OTHER, most=2) == [True]
    assert await attachment_rows.get_staged(database, "file-3") is None
    assert await due_garbage(database, AT + HOUR) == ["key-1", "key-2", "key-4"]


async def test_file_that_a_message_names_is_no_garbage(database):
    """It is taken once, and not while its bytes are being deleted."""
    await stage(database, file(1), file(2))
    async with database.transaction() as tx:
        assert [await attachment_rows.take_staged(tx, [file(1)]) for _ in range(2)] == [True, False]
    assert await due_garbage(database, AT + HOUR) == ["key-2"]
    async with database.transaction() as tx:
        assert await claim_due_garbage(tx, AT + HOUR, 10, until=AT + 2 * HOUR) == [garbage_entry_of(file(2))]
        assert not await attachment_rows.take_staged(tx, [file(2)])


async def test_discarded_file_is_garbage_at_once(database):
    """Only its uploader discards it; with a case, all of its staged files are discarded."""
    await stage(database, file(1), file(2), file(3), file(4, case=2))
    async with database.transaction() as tx:
        assert await attachment_rows.discard_staged(tx, OTHER, "case-1", "file-1", AT) == []
        assert await attachment_rows.discard_staged(tx, AGENT, "case-2", "file-1", AT) == []
        assert await attachment_rows.discard_staged(tx, SAME_AGENT, "case-1", "file-1", AT) == [file(1)]
    assert await due_garbage(database, AT) == ["key-1"]
    async with database.transaction() as tx:
        discarded = await attachment_rows.discard_staged_of_case(tx, "case-1", AT)
    assert sorted(each.id for each in discarded) == ["file-2", "file-3"]
    assert await due_garbage(database, AT) == ["key-1", "key-2", "key-3"]
    assert await attachment_rows.get_staged(database, "file-4") == file(4, case=2)
