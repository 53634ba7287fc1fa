"""Merges and splits at once with other changes, by the services of two replicas: nothing is lost or doubled."""

import asyncio
import json
from collections import Counter

import pytest
import sqlalchemy as sa

from support_service.cases.links import LinkService
from support_service.cases.model.requests import NewCase, Split
from support_service.cases.service import CaseService
from support_service.cases.splitting import CaseSplitter
from support_service.platform.database.dialect import POSITION_BITS
from support_service.platform.database.tables import attachments, messages, outbox, search_documents, tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.cases import code_of, message_from, recorder

WRITERS = 12


class Replica:
    def __init__(self, database, instruments):
        changes = recorder(database, instruments)
        self.cases, self.links = CaseService(database, changes), LinkService(database, changes)
        self.splitter = CaseSplitter(database, changes)

    async def open(self, *texts):
        case = await self.cases.open_case(SYSTEM_ORIGIN, NewCase(subject="A", channel="email", customerId="c-1"))
        for text in texts:
            await self.write(case.id, text)
        return case.id

    async def write(self, case_id, text, **fields):
        return await self.cases.add_message(SYSTEM_ORIGIN, case_id, message_from("customer", text, **fields))

    def merge(self, case_id, into):
        return self.links.merge(SYSTEM_ORIGIN, case_id, into)

    def split(self, case_id, ids):
        return self.splitter.split(SYSTEM_ORIGIN, case_id, Split(messageIds=ids, subject="B"))


@pytest.fixture
def replicas(two_databases, instruments):
    return [Replica(each, instruments) for each in two_databases]


async def stored(database):
    """Return the case of each message by its text. Fail if the rows of a case are out of step with its messages."""
    rows = await database.fetch_all(sa.select(messages).order_by(messages.c.seq))
    cases = await database.fetch_all(sa.select(tickets))
    for case in cases:
        own = [row for row in rows if row.ticket_id == case.id]
        assert case.version > len(own)
        assert [row.created_at for row in own] == sorted(row.created_at for row in own)
        assert case.conversation_bytes == 1024 * len(own)
        first = case.seq << POSITION_BITS
        documents = await database.fetch_all(
            sa.select(search_documents.c.id).where(
                search_documents.c.id.between(first + 1, first + (1 << POSITION_BITS) - 1)
            )
        )
        assert len(documents) == len(own)
        waiting = [row.created_at for row in own if row.author_type == "customer"]
        assert case.waiting_since == (waiting[0] if waiting else None)
    assert len({row.message for row in rows}) == len(rows)
    return {row.message: row.ticket_id for row in rows}


@both_databases
async def test_of_two_merges_that_cross_one_is_refused(replicas, database):
    """A into B while B goes into A: one of them is the original, and it is open."""
    pairs = [[await replicas[0].open(), await replicas[0].open()] for _ in range(6)]
    found = await asyncio.gather(
        *(code_of(replicas[0].merge(one, other)) for one, other in pairs),
        *(code_of(replicas[1].merge(other, one)) for one, other in pairs),
    )
    for codes in zip(found[: len(pairs)], found[len(pairs) :], strict=True):
        assert sorted(codes, key=str) == sorted([None, "link_cycle"], key=str)
    rows = await database.fetch_all(sa.select(tickets.c.status))
    assert Counter(row.status for row in rows) == {"open": len(pairs), "closed": len(pairs)}


@both_databases
async def test_messages_for_a_case_that_is_being_merged_are_all_there_once(replicas, database):
    """Each in the case that its answer names. None is refused. Those sent after the merge arrive in the original."""
    for number in range(3):
        original, case = await replicas[0].open(), await replicas[1].open()
        written = [
            replicas[each % 2].write(case, f"{number} {each}", externalId=f"<{number} {each // 2}>")
            for each in range(WRITERS)
        ]
        *answers, _ = await asyncio.gather(*written, replicas[0].merge(case, original))
        late = await replicas[1].write(case, f"{number} late")
        assert late.ticket_id == original
        places = await stored(database)
        assert {answer.message: answer.ticket_id for answer in answers}.items() <= places.items()
        # Of two that are sent with one external id, one is added.
        assert len([text for text in places if text.startswith(f"{number} ")]) == WRITERS // 2 + 1


@both_databases
async def test_messages_for_a_case_that_is_being_split_are_all_there_once(replicas, database):
    """The split moves what it names, once, and two splits of one message do not both get it."""
    case = await replicas[0].open("one", "two", "three")
    ids = [row.id for row in await database.fetch_all(sa.select(messages.c.id).order_by(messages.c.seq))]
    splits = [replicas[each % 2].split(case, ids[1:2]) for each in range(4)]
    written = [replicas[each % 2].write(case, str(each)) for each in range(WRITERS)]
    *codes, _ = await asyncio.gather(*map(code_of, splits), asyncio.gather(*written))
    assert Counter(codes) == {None: 1, "invalid_request": 3}
    places = await stored(database)
    assert len(places) == 3 + WRITERS
    assert [text for text, place in places.items() if place != case] == ["two"]


@both_databases
async def test_split_and_merge_of_one_case_at_once(replicas, database):
    """Whichever comes first, each message is read with the original, or with the new case."""
    case, original = await replicas[0].open("one", "two"), await replicas[0].open("three")
    ids = [row.id for row in await database.fetch_all(sa.select(messages.c.id).order_by(messages.c.seq))]
    codes = await asyncio.gather(
        code_of(replicas[0].merge(case, original)),
        code_of(replicas[1].split(case, ids[:1])),
        replicas[1].write(case, "four"),
    )
    assert codes[:2] == [None, None]
    places = await stored(database)
    assert places["one"] not in (case, original)
    assert {places["two"], places["three"]} == {case, original}
    assert places["four"] in (case, original)
    assert await database.fetch_all(sa.select(attachments.c.id)) == []


@both_databases
async def test_split_is_published_once_for_each_case(replicas, database):
    """The new case as opened, without its messages, and the original as changed: no subscriber sends them again."""
    case = await replicas[0].open("one", "two")
    last = (await database.fetch_now(sa.select(sa.func.max(outbox.c.seq).label("seq")))).seq
    ids = [row.id for row in await database.fetch_all(sa.select(messages.c.id).order_by(messages.c.seq))]
    new, _ = await replicas[0].split(case, ids[1:])
    rows = await database.fetch_all(sa.select(outbox.c.event).where(outbox.c.seq > last).order_by(outbox.c.seq))
    opened, split = [json.loads(row.event) for row in rows]
    assert (opened["type"], opened["subject"]) == ("support.case.opened.v1", new)
    assert (opened["data"]["splitFrom"], opened["data"]["initialMessage"]) == (case, None)
    shown = opened["data"]["ticket"]
    assert (shown["version"], shown["publicVersion"], shown["waitingSince"] is None) == (2, 2, False)
    assert (split["type"], split["subject"], split["data"]["changeType"]) == (
        "support.case.updated.v1",
        case,
        "case.split",
    )
    assert (split["data"]["splitInto"], split["data"]["messageIds"]) == (new, ids[1:])
    assert (split["data"]["visibility"], split["data"]["ticket"]["version"]) == ("public", 4)
