"""What is read of conversations, on both databases: pages, merged and split cases, history, and what is new."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from pydantic_core import from_json, to_json

from support_service.cases.links import LinkService
from support_service.cases.listing import case_list
from support_service.cases.model.files import StoredAttachment
from support_service.cases.model.history import MAX_HISTORY_BYTES, MAX_HISTORY_ENTRIES
from support_service.cases.model.requests import CaseChange, CaseQuery, Closing, NewCase, Split, StatusChange
from support_service.cases.restore import record_restore
from support_service.cases.splitting import CaseSplitter
from support_service.cases.sql import attachment_rows, case_reading
from support_service.cases.sql.link_rows import read_merged_page, read_with_duplicates
from support_service.core.domain.principals import SYSTEM
from support_service.core.ids import new_id
from support_service.platform.audit import entry_rows
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.cases import AT, code_of, message_from, recorder, stored_case

pytestmark = both_databases


@pytest.fixture
def open_cases(service):
    async def open_cases(number):
        new = NewCase(subject="A", channel="email", customerId="ann")
        return [(await service.open_case(SYSTEM_ORIGIN, new)).id for _ in range(number)]

    return open_cases


async def add_file(database, case_id):
    name = new_id()
    file = StoredAttachment(name, case_id, "a.txt", "text/plain", 1, "", "local", name, AT)
    async with database.transaction() as tx:
        await attachment_rows.add(tx, file, 9)
    return name


async def ids_of_pages(read_page, limit):
    found, more = [], True
    while more:
        page = await read_page(found[-1] if found else None, limit)
        found += [each["id"] for each in from_json(page.messages)]
        more = page.more_messages
    return found


async def test_pages_have_each_message_of_a_merged_case_once(service, open_cases, database, instruments):
    """In the order of time, with the files. Customers are shown no note. No page begins after an unknown message."""
    ids, said = await open_cases(3), []
    for number in range(9):
        fields = {"visibility": "internal"} if number % 4 == 2 else {}
        message = message_from("agent", f"{number}", **fields)
        said.append(await service.add_message(SYSTEM_ORIGIN, ids[number % 3], message))
    for case_id in ids:
        await add_file(database, case_id)
    links = LinkService(database, recorder(database, instruments))
    for duplicate, original in ((2, 1), (1, 0)):
        await links.merge(SYSTEM_ORIGIN, ids[duplicate], ids[original])
    for public_only in (False, True):

        def read_own(after, limit, public_only=public_only):
            return case_reading.read_page(database, ids[0], after, limit, public_only=public_only)

        def read_merged(after, limit, public_only=public_only):
            return read_merged_page(database, ids[0], after, limit, public_only=public_only)

        seen = [each for each in said if not (public_only and each.visibility == "internal")]
        for limit in (1, 2, 20):
            own = [each.id for each in seen if each.ticket_id == ids[0]]
            assert await ids_of_pages(read_own, limit) == own
            assert await ids_of_pages(read_merged, limit) == [each.id for each in seen]
        assert [(await read(said[1].id[::-1], 2)).messages for read in (read_own, read_merged)] == [None, None]
        assert len(from_json((await read_merged(None, 1)).attachments)) == 3
        whole = await read_with_duplicates(database, ids[0], public_only=public_only, with_history=True)
        assert [from_json(each.fields)["id"] for each in whole] == ids
        assert {each["id"] for case in whole for each in from_json(case.messages)} == {each.id for each in seen}


async def test_split_takes_along_what_belongs_to_the_messages(service, open_cases, database, instruments):
    """Their files, their words in the search, and their external ids. The rest stays."""
    (case,) = await open_cases(1)
    files = [await add_file(database, case) for _ in range(2)]
    kept = await service.add_message(SYSTEM_ORIGIN, case, message_from("agent", "one", attachmentIds=files[:1]))
    sent = message_from("customer", "two", attachmentIds=files[1:], externalId="m-2")
    moved = await service.add_message(SYSTEM_ORIGIN, case, sent)
    splitter = CaseSplitter(database, recorder(database, instruments))
    new, _ = await splitter.split(SYSTEM_ORIGIN, case, Split(messageIds=[moved.id], subject="B"))
    for case_id, message, file, word in ((case, kept, files[0], "one"), (new, moved, files[1], "two")):
        stored = await stored_case(service, case_id)
        assert [each.id for each in stored.messages] == [message.id]
        assert [each.id for each in stored.attachments] == [file]
        page = await case_list.find_cases(database, CaseQuery(q=word), None, SYSTEM)
        assert [found.id for _, found in page.cases] == [case_id]
    again = await service.add_message(SYSTEM_ORIGIN, case, sent)
    assert (again.id, again.ticket_id) == (moved.id, new)


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"subject": ["x" * (MAX_HISTORY_BYTES // 4), ""], "tags": [[], ["a"]]}, 4),
        ({"priority": ["low", "high"]}, MAX_HISTORY_ENTRIES + 1),  # the one more tells that there are others
    ],
    ids=["long texts", "many entries"],
)
async def test_history_is_bounded(open_cases, database, changes, kept):
    """It has the newest entries, and says that there are older ones."""
    (case,) = await open_cases(1)
    entry = {"actor": "lan", "role": "agent", "action": "case.changed", "case_id": case, "request_id": None}
    entry["changes"] = to_json(changes).decode()
    number = kept + 5
    async with database.transaction() as tx:
        await entry_rows.add_entries(tx, [entry | {"at": AT + timedelta(seconds=each)} for each in range(number)])
    stored = await case_reading.read(database, case, known_history=case_reading.NO_VERSION)
    history = from_json(stored.history)
    assert len(history["entries"]) == kept
    assert from_json(history["entries"][-1]["changes"]) == changes


async def test_of_many_changes_of_one_version_one_is_made(service, open_cases):
    """Whatever they change."""
    changes = (
        lambda case, expected: service.change_case(SYSTEM_ORIGIN, case, CaseChange(subject="B"), expected),
        lambda case, expected: service.set_status(SYSTEM_ORIGIN, case, StatusChange(status="pending"), expected),
        lambda case, expected: service.close_case(SYSTEM_ORIGIN, case, Closing(message="Bye"), expected),
        lambda case, expected: service.add_message(SYSTEM_ORIGIN, case, message_from("agent"), expected),
    )
    for case, change in zip(await open_cases(len(changes)), changes, strict=True):
        version = (await stored_case(service, case)).version
        codes = await asyncio.gather(*(code_of(change(case, {version})) for _ in range(8)))
        assert Counter(codes) == {None: 1, "case_changed": 7}


async def test_messages_since_a_version(service, open_cases, database):
    """The newest ones, oldest first. For customers neither the version nor the messages have notes.

    After a restore of the database, versions begin at its base.
    """
    (case,) = await open_cases(1)
    said = [("customer", "public"), ("agent", "internal"), ("agent", "public"), ("agent", "public")]
    ids = [
        (await service.add_message(SYSTEM_ORIGIN, case, message_from(author, visibility=visibility))).id
        for author, visibility in said
    ]
    for public_only, since, most, expected in (
        *((False, 1, 9, ids), (False, 2, 9, ids[1:]), (False, 1, 2, ids[2:]), (False, 5, 9, [])),
        *((True, 1, 9, [ids[0], *ids[2:]]), (True, 2, 9, ids[2:])),
    ):
        found = await case_reading.read_messages_since(database, case, since, most, public_only=public_only)
        assert [each["id"] for each in from_json(found.messages)] == expected
        assert found.version == (4 if public_only else 5)
    base = (await record_restore(database, SYSTEM_ORIGIN)).version_base
    assert (await case_reading.read_messages_since(database, case, 1, 9, public_only=False)).version == base + 5


async def test_rows_of_a_list_show_what_the_customer_said_last(service, open_cases, database):
    """Neither answers nor notes."""
    (case,) = await open_cases(1)
    asked = await service.add_message(SYSTEM_ORIGIN, case, message_from("customer", 'Is it\n"late"?'))
    await service.add_message(SYSTEM_ORIGIN, case, message_from("agent", "Sorry."))
    await service.add_message(SYSTEM_ORIGIN, case, message_from("agent", "She is cross.", visibility="internal"))
    ((_, row),) = (await case_list.find_cases(database, CaseQuery(), None, SYSTEM)).cases
    assert (row.last_customer_message.text, row.last_customer_message.at) == ('Is it "late"?', asked.created_at)
