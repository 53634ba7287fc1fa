"""LinkService: a link changes both of its cases, completely or not at all, and never closes a cycle."""

import asyncio
import json
import shutil
from collections import Counter
from itertools import pairwise, product

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from support_service.cases.links import LinkService
from support_service.cases.model.requests import NewCase, NewLink, StatusChange
from support_service.cases.model.vocabulary import MAX_DUPLICATES, MAX_DUPLICATES_BYTES, MAX_LINKS
from support_service.cases.service import CaseService
from support_service.cases.sql.link_rows import read_with_duplicates
from support_service.core.errors import Conflict, NotFound, VersionConflict
from support_service.platform.database.shared import create_database
from support_service.platform.database.tables import audit_log, case_links, outbox, tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.cases import code_of, recorder, stored_case
from tests.support.examples import examples
from tests.support.sessions import in_thread
from tests.support.timings import PATIENT_DATABASE

CASES = 5


def link_to(other, kind="related"):
    return NewLink(kind=kind, caseId=other.id)


@pytest.fixture
def links(database, instruments):
    return LinkService(database, recorder(database, instruments))


@pytest.fixture
def add_case(service):
    async def add(channel="email", **fields):
        return await service.open_case(SYSTEM_ORIGIN, NewCase(subject="A", channel=channel, **fields))

    return add


async def events_of(database, case):
    rows = await database.fetch_all(sa.select(outbox.c.event).where(outbox.c.case_id == case.id).order_by(outbox.c.seq))
    events = [json.loads(row.event) for row in rows]
    found = [(each["type"].split(".")[2], each["data"]) for each in events[1:]]
    return [(kind, data.get("changeType"), data.get("link")) for kind, data in found]


async def actions_on(database, case):
    rows = await database.fetch_all(
        sa.select(audit_log).where(audit_log.c.case_id == case.id).order_by(audit_log.c.seq)
    )
    return [(row.action, json.loads(row.changes)) for row in rows[1:]]


@both_databases
@pytest.mark.parametrize(
    ("kind", "inverse"), [("related", "related"), ("parent-of", "child-of"), ("duplicate-of", "duplicated-by")]
)
async def test_link_changes_both_cases(service, links, add_case, database, kind, inverse):
    """Each gets a version, an event and an audit entry, and has the link from its side until it is removed."""
    case, other = await add_case(), await add_case()
    link, is_new = await links.add(SYSTEM_ORIGIN, case.id, link_to(other, kind))
    assert is_new
    mine, its = await stored_case(service, case.id), await stored_case(service, other.id)
    assert mine.links == [link]
    assert [(each.id, each.kind, each.case_id) for each in its.links] == [(link.id, inverse, case.id)]
    closing = kind == "duplicate-of"
    assert (mine.version, its.version) == (2 + closing, 2)
    await links.remove(SYSTEM_ORIGIN, other.id, link.id)
    for each, seen, to in ((case, kind, other), (other, inverse, case)):
        found = await stored_case(service, each.id)
        assert found.links == []
        closes = closing and each is case
        assert (found.version, found.status) == (5 if closes else 3, "open")
        shown = {"id": link.id, "kind": seen, "caseId": to.id}
        events = await events_of(database, each)
        assert [(type_, change) for type_, change, _ in events] == [
            ("updated", "link.added"),
            *([("updated", "status.changed"), ("closed", None)] if closes else []),
            ("updated", "link.removed"),
            *([("updated", "status.changed")] if closes else []),
        ]
        sent = [sent for _, change, sent in events if change in ("link.added", "link.removed")]
        assert [{name: each[name] for name in shown} for each in sent] == [shown, shown]
        values = {"linkId": link.id, "kind": seen, "linkedCaseId": to.id}
        assert await actions_on(database, each) == [
            ("link.added", {name: [None, value] for name, value in values.items()}),
            *([("case.closed", {"status": ["open", "closed"]})] if closes else []),
            ("link.removed", {name: [value, None] for name, value in values.items()}),
            *([("case.reopened", {"status": ["closed", "open"]})] if closes else []),
        ]


@both_databases
async def test_removed_link_gives_the_duplicate_its_former_status(service, links, add_case, database):
    """By one change with its event. A case that was closed before stays closed."""
    original = await add_case()
    for status in ("open", "pending", "resolved", "closed"):
        duplicate = await add_case()
        await service.set_status(SYSTEM_ORIGIN, duplicate.id, StatusChange(status=status))
        link, _ = await links.add(SYSTEM_ORIGIN, duplicate.id, link_to(original, "duplicate-of"))
        assert (await stored_case(service, duplicate.id)).status == "closed"
        await links.remove(SYSTEM_ORIGIN, duplicate.id, link.id)
        assert (await stored_case(service, duplicate.id)).status == status
        entries = [changes["status"] for _, changes in await actions_on(database, duplicate) if "status" in changes]
        expected = [] if status == "closed" else [["closed", status]]
        assert [entry for entry in entries if entry[0] == "closed"] == expected


@both_databases
async def test_duplicate_that_was_reopened_since_keeps_its_status(service, links, add_case, database):
    """Also if it was closed again, on purpose; and if the previous release did it, which writes the status alone."""
    original = await add_case()
    for left, by_previous_release in product(("pending", "closed"), (False, True)):
        duplicate = await add_case()
        link, _ = await links.add(SYSTEM_ORIGIN, duplicate.id, link_to(original, "duplicate-of"))
        for status in ("open", left):
            if by_previous_release:
                async with database.transaction() as tx:
                    await tx.execute(tickets.update().where(tickets.c.id == duplicate.id).values(status=status))
            else:
                await service.set_status(SYSTEM_ORIGIN, duplicate.id, StatusChange(status=status))
        await links.remove(SYSTEM_ORIGIN, duplicate.id, link.id)
        assert (await stored_case(service, duplicate.id)).status == left


@both_databases
async def test_same_link_again_changes_nothing(service, links, add_case):
    """`related` is the same from both sides."""
    case, other = await add_case(), await add_case()
    first, _ = await links.add(SYSTEM_ORIGIN, case.id, link_to(other))
    again = [
        await links.add(SYSTEM_ORIGIN, case.id, link_to(other)),
        await links.add(SYSTEM_ORIGIN, other.id, link_to(case)),
    ]
    assert [(link.id, link.case_id, is_new) for link, is_new in again] == [
        (first.id, other.id, False),
        (first.id, case.id, False),
    ]
    assert [(await stored_case(service, each.id)).version for each in (case, other)] == [2, 2]


@both_databases
@pytest.mark.parametrize("kind", ["parent-of", "duplicate-of"])
async def test_cycle_is_refused(service, links, add_case, kind):
    """However long, and nothing changes; links of another kind do not count."""
    chain = [await add_case() for _ in range(4)]
    for one, other in pairwise(chain):
        await links.add(SYSTEM_ORIGIN, one.id, link_to(other, kind))
    before = [await stored_case(service, each.id) for each in chain]
    for target in chain[:3]:
        assert await code_of(links.add(SYSTEM_ORIGIN, chain[3].id, link_to(target, kind))) == "link_cycle"
    assert [await stored_case(service, each.id) for each in chain] == before
    _, is_new = await links.add(SYSTEM_ORIGIN, chain[3].id, link_to(chain[0]))
    assert is_new


@both_databases
async def test_case_is_a_duplicate_of_one_case(links, add_case):
    case, one, other = await add_case(), await add_case(), await add_case()
    link, _ = await links.add(SYSTEM_ORIGIN, case.id, link_to(one, "duplicate-of"))
    assert await code_of(links.add(SYSTEM_ORIGIN, case.id, link_to(other, "duplicate-of"))) == "already_duplicate"
    await links.remove(SYSTEM_ORIGIN, case.id, link.id)
    await links.add(SYSTEM_ORIGIN, case.id, link_to(other, "duplicate-of"))


@both_databases
async def test_closed_case_is_no_original_of_a_duplicate(service, links, add_case):
    """Nothing changes. Other links with it are allowed, and so is this one when it was reopened."""
    case, original = await add_case(), await add_case()
    await service.set_status(SYSTEM_ORIGIN, original.id, StatusChange(status="closed"))
    before = [await stored_case(service, each.id) for each in (case, original)]
    assert (
        await code_of(links.add(SYSTEM_ORIGIN, case.id, link_to(original, "duplicate-of")))
        == "duplicate_of_closed_case"
    )
    assert [await stored_case(service, each.id) for each in (case, original)] == before
    for kind in ("related", "parent-of"):
        await links.add(SYSTEM_ORIGIN, case.id, link_to(original, kind))
    await service.set_status(SYSTEM_ORIGIN, original.id, StatusChange(status="open"))
    await links.add(SYSTEM_ORIGIN, case.id, link_to(original, "duplicate-of"))
    assert (await stored_case(service, case.id)).status == "closed"


@both_databases
async def test_number_of_links_is_limited(links, add_case, database):
    """From whichever side they were added."""
    full, *others = [await add_case() for _ in range(MAX_LINKS + 2)]
    for number, other in enumerate(others[:MAX_LINKS]):
        one, another = (full, other) if number % 2 else (other, full)
        await links.add(SYSTEM_ORIGIN, one.id, link_to(another, "parent-of" if number % 2 else "duplicate-of"))
    for one, another in ((full, others[-1]), (others[-1], full)):
        assert await code_of(links.add(SYSTEM_ORIGIN, one.id, link_to(another))) == "too_many_links"
    assert (await database.fetch_now(sa.select(sa.func.count()).select_from(case_links)))[0] == MAX_LINKS


@both_databases
async def test_no_more_than_twenty_duplicates_are_read(links, add_case, database):
    """The oldest ones, and no further one after 4 MiB of messages: then the case says that it has more messages."""
    original, *duplicates = [await add_case() for _ in range(MAX_DUPLICATES + 3)]
    for duplicate in duplicates:
        await links.add(SYSTEM_ORIGIN, duplicate.id, link_to(original, "duplicate-of"))

    async def read():
        found = await read_with_duplicates(database, original.id, public_only=False)
        return [json.loads(each.fields)["id"] for each in found], found[0].more_messages

    assert (MAX_DUPLICATES, await read()) == (20, ([original.id, *(each.id for each in duplicates[:20])], True))
    async with database.transaction() as tx:
        long = tickets.c.id.in_([each.id for each in duplicates[:3]])
        await tx.execute(tickets.update().where(long).values(conversation_bytes=MAX_DUPLICATES_BYTES // 2 + 1))
    assert await read() == ([original.id, *(each.id for each in duplicates[:2])], True)


@both_databases
async def test_only_the_expected_version_is_changed(links, add_case, service):
    """It is that of the case in the path."""
    case, other = await add_case(), await add_case()
    for expected in ({2}, ()):
        with pytest.raises(VersionConflict):
            await links.add(SYSTEM_ORIGIN, case.id, link_to(other), expected)
    link, _ = await links.add(SYSTEM_ORIGIN, case.id, link_to(other), {1})
    with pytest.raises(VersionConflict):
        await links.remove(SYSTEM_ORIGIN, other.id, link.id, {1})
    await links.remove(SYSTEM_ORIGIN, other.id, link.id, {2})
    assert (await stored_case(service, case.id)).version == 3


@both_databases
async def test_deleted_synthetic_case_takes_its_links_along(service, links, add_case, database):
    """The other cases get a new version, so that no replica keeps the link."""
    case = await add_case("synthetic")
    others = [await add_case(), await add_case()]
    await links.add(SYSTEM_ORIGIN, case.id, link_to(others[0]))
    await links.add(SYSTEM_ORIGIN, others[1].id, link_to(case, "parent-of"))
    await service.remove_synthetic(SYSTEM_ORIGIN, case.id)
    assert await database.fetch_all(sa.select(case_links)) == []
    for other in others:
        found = await stored_case(service, other.id)
        assert (found.version, found.links) == (3, [])
    with pytest.raises(NotFound):
        await service.remove_synthetic(SYSTEM_ORIGIN, "\0")


class LinkMachine(RuleBasedStateMachine):
    """Adds and removes links of a few cases, in any order, on a database of its own."""

    def __init__(self, url, instruments):
        super().__init__()
        self._runner = asyncio.Runner()
        self._database = create_database(url, timings=PATIENT_DATABASE)
        self._links = LinkService(self._database, recorder(self._database, instruments))
        self._known = []
        self._cases = self._runner.run(
            self._open_cases(CaseService(self._database, recorder(self._database, instruments)))
        )

    async def _open_cases(self, service):
        await self._database.open()
        return [await service.open_case(SYSTEM_ORIGIN, NewCase(subject="A", channel="email")) for _ in range(CASES)]

    @rule(
        first=st.integers(0, CASES - 1),
        step=st.integers(1, CASES - 1),
        kind=st.sampled_from(["parent-of", "duplicate-of", "related"]),
    )
    def add(self, first, step, kind):
        case, other = self._cases[first], self._cases[(first + step) % CASES]
        try:
            link, _ = self._runner.run(self._links.add(SYSTEM_ORIGIN, case.id, link_to(other, kind)))
        except Conflict as refusal:
            if refusal.code not in ("link_cycle", "already_duplicate", "duplicate_of_closed_case"):
                raise
        else:
            self._known.append((case.id, link.id))

    @rule(number=st.integers(0, 9))
    def remove(self, number):
        if self._known:
            case_id, link_id = self._known.pop(number % len(self._known))
            try:
                self._runner.run(self._links.remove(SYSTEM_ORIGIN, case_id, link_id))
            except NotFound as refusal:  # it was added twice, and removed before
                if refusal.code != "link_not_found":
                    raise

    @invariant()
    def there_is_no_cycle(self):
        """Cases without a link towards another can be left out, one after another, until none is left."""
        rows = self._runner.run(self._database.fetch_all(sa.select(case_links)))
        for kind in ("parent-of", "duplicate-of"):
            edges = {(row.case_id, row.other_case_id) for row in rows if row.kind == kind}
            while edges:
                starts = {start for start, _ in edges}
                kept = {(start, end) for start, end in edges if end in starts}
                assert len(kept) < len(edges), f"a cycle of {kind}: {kept}"
                edges = kept

    @invariant()
    def duplicates_are_closed_and_have_one_original(self):
        rows = self._runner.run(self._database.fetch_all(sa.select(case_links)))
        duplicates = Counter(row.case_id for row in rows if row.kind == "duplicate-of")
        assert set(duplicates.values()) <= {1}
        states = self._runner.run(self._database.fetch_all(sa.select(tickets.c.id, tickets.c.status)))
        closed = {row.id for row in states if row.status == "closed"}
        assert closed == set(duplicates)

    def teardown(self):
        self._runner.run(self._database.close())
        self._runner.close()


@pytest.mark.hypothesis
def test_no_sequence_of_changes_closes_a_cycle(sqlite_template, tmp_path, instruments):
    """And a case is closed exactly as long as it is a duplicate, if nothing else changes its status."""
    numbers = iter(range(1000))

    def machine():
        path = tmp_path / f"{next(numbers)}.db"
        shutil.copy(sqlite_template, path)
        return LinkMachine(f"sqlite:///{path}", instruments)

    limits = examples(0.2, stateful_step_count=25)
    in_thread(lambda: run_state_machine_as_test(machine, settings=limits))
