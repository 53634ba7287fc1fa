"""An imported case is stored as if its requests had been made at their times, but without events."""

import asyncio
import json
from collections import Counter

import pytest
import sqlalchemy as sa

from support_service.attachments.maintenance.reconcile import compare_ledger
from support_service.cases.model.files import FileTotals
from support_service.core.clock import utc_now
from support_service.importing import imported_case
from support_service.platform.audit import entry_rows
from support_service.platform.audit.log import erase_cases
from support_service.platform.audit.verify import verify_chain
from support_service.platform.database.tables import (
    attachments,
    audit_log,
    case_counts,
    messages,
    metadata,
    outbox,
    search_documents,
    ticket_references,
    tickets,
)
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, unit_of_work
from tests.conftest import both_databases
from tests.support.calls import (
    add_message,
    eventually,
    list_cases,
    open_case,
    read_case,
    read_detail,
    stored_files,
    upload,
)
from tests.support.importing import ImportRunner

pytestmark = both_databases


def said(author, text, day, **fields):
    return {"authorType": author, "message": text, "sentAt": f"2020-01-0{day}T10:00:00Z", **fields}


CUSTOMER = said("customer", "Where is it?", 1, externalId="m1")
NOTE = said("agent", "She is impatient", 2, visibility="internal", metadata={"mood": [1, None, "bad"]})
ANSWER = said("agent", "It is on its way", 3, attachment="label.txt")
ACCESS = {"customerId": "ann", "assignedAgentId": "agent-1", "team": "delivery"}
CONTENT = {"subject": "A parcel", "description": "It did not arrive", "context": [{"type": "order", "orderId": "O-1"}]}
FIELDS = {"externalId": "case-1", "channel": "email", "priority": "high", "tags": ["late"], "status": "resolved"}
FIELDS |= CONTENT | ACCESS
CASE = {
    **FIELDS,
    "sentAt": "2020-01-01T10:00:00Z",
    "closedAt": "2020-01-05T10:00:00Z",
    "messages": [CUSTOMER, NOTE, ANSWER],
    "attachments": ["label.txt"],
}


def new(number, **fields):
    return {"externalId": f"c{number}", "subject": f"Case {number}", "channel": "email", **fields}


@pytest.fixture
def runner(database, tmp_path, attachment_dir):
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "label.txt").write_text("To Ann")
    return ImportRunner(database, folder, attachment_dir)


async def totals(runner, cases, **options):
    found = await runner.run_lines(cases, **options)
    return (found.read, found.imported, found.already_stored, found.refused)


async def count(database, table):
    return (await database.fetch_now(sa.select(sa.func.count().label("number")).select_from(table))).number


async def test_case_is_read_as_it_was(runner, client):
    """All of it, with its original times, in order, also in the timeline; the file can be downloaded."""
    assert await totals(runner, [CASE]) == (1, 1, 0, 0)
    (item,) = (await list_cases(client))["items"]
    case = await read_detail(client, item)
    assert {name: case[name] for name in FIELDS} == FIELDS
    assert [case[name][8:10] for name in ("sentAt", "createdAt", "updatedAt")] == ["01", "01", "05"]
    for stored, message in zip(case["messages"], CASE["messages"], strict=True):
        expected = {name: value for name, value in message.items() if name not in ("sentAt", "attachment")}
        assert {name: stored[name] for name in expected} == expected
        assert stored["authorId"] == {"customer": "ann"}.get(message["authorType"])
        assert stored["sentAt"][:10] == stored["createdAt"][:10] == message["sentAt"][:10]
    (file,) = case["attachments"]
    assert (file["filename"], file["contentType"], file["createdAt"][:10]) == ("label.txt", "text/plain", "2020-01-03")
    answer = case["messages"][2]
    assert (answer["attachmentUri"], answer["attachmentIds"]) == (file["uri"], [file["id"]])
    async with client.get(file["uri"]) as response:
        assert await response.text() == "To Ann"
    moments = [entry["timestamp"] for entry in case["timeline"] if entry["type"] in ("conversation", "attachment")]
    assert moments == sorted(moments)
    (event,) = [entry for entry in case["timeline"] if entry["type"] == "case-event"]
    assert (event["action"], event["actor"]) == ("case.imported", "operator ann")
    assert event["changes"]["status"] == [None, "resolved"]
    assert moments[0] == "2020-01-01T10:00:00.000000Z"
    for query in ({"q": "arrive"}, {"q": "impatient"}, {"status": "resolved"}, {"customerId": "ann"}):
        assert [each["id"] for each in (await list_cases(client, **query))["items"]] == [case["id"]], query


async def test_batches_have_at_most_200_cases_and_about_a_mebibyte_of_messages(runner):
    """Each is one transaction, which blocks other writers."""
    said = [{"authorType": "customer", "message": "x" * 60_000}]
    long, short = [new(number, messages=said * 7) for number in range(3)], [new(number) for number in range(100, 301)]
    assert await totals(runner, [*long, *short], dry_run=True) == (204, 204, 0, 0)
    size = len(json.dumps(short[0])) + 1
    assert runner.batches == [sum(len(json.dumps(case)) + 1 for case in long), 200 * size, size]


async def test_import_publishes_no_events(runner, database):
    """There is one audit entry for each case, by the user who runs the import."""
    await totals(runner, [CASE, new(2)])
    assert await count(database, outbox) == 0
    rows = await database.fetch_all(sa.select(audit_log))
    assert [(row.actor, row.role, row.action) for row in rows] == 2 * [("operator ann", "supervisor", "case.imported")]
    recorded = {name: FIELDS[name] for name in FIELDS.keys() - CONTENT.keys() - {"externalId"}}
    recorded |= {"messages": 3, "attachments": 1}
    assert json.loads(rows[0].changes) == {name: [None, value] for name, value in recorded.items()}


async def test_audit_chain_takes_the_entries(runner, database):
    """They are sealed like all others, and erased with their case. The last line of the file is the newest case."""
    await totals(runner, [CASE, *map(new, range(300))])
    first, *others = await database.fetch_all(sa.select(tickets.c.id, tickets.c.subject).order_by(tickets.c.seq))
    assert [row.subject for row in others] == [f"Case {number}" for number in range(300)]
    async with unit_of_work(database, SYSTEM_ORIGIN) as work:
        await erase_cases(work, [first.id], utc_now())
    chain = await verify_chain(database)
    assert (chain.flaw, chain.head.position) == (None, 302)
    head, oldest = await entry_rows.read_head_and_oldest_unsealed(database)
    assert (head.position, oldest) == (302, None)


async def test_rows_are_those_of_requests(runner, client, database):
    """What triggers and requests derive is the same: counts, search documents, references, versions, sizes, states."""
    plain = {name: CASE[name] for name in ("subject", "channel", "customerId", "tags", "context", "priority")}
    case = await open_case(client, **plain)
    for message in (CUSTOMER, NOTE, ANSWER, CUSTOMER | {"externalId": "m2"}):
        await add_message(client, case, **{name: value for name, value in message.items() if name != "attachment"})
    await upload(client, case, b"To Ann", filename="label.txt", content_type="text/plain")
    again = [CUSTOMER, NOTE, ANSWER | {"attachment": None}, said("customer", "Where is it?", 4, externalId="m2")]
    await totals(runner, [plain | {"externalId": "x", "messages": again, "attachments": ["label.txt"]}])
    first, second = [row._asdict() for row in await database.fetch_all(sa.select(tickets).order_by(tickets.c.seq))]
    days = {"internal_updated_at": "02", "waiting_since": "04", "answered_at": "03"}
    own = {"seq", "id", "created_at", "updated_at", "external_id", *days}
    assert {name: first[name] for name in first.keys() - own} == {name: second[name] for name in second.keys() - own}
    assert None not in [first[name] for name in days]
    assert {name: f"{second[name]:%d}" for name in days} == days
    documents = await database.fetch_all(sa.select(search_documents).order_by(search_documents.c.id))
    by_case = [[(row.id & 0xFFFFF, row.internal, row.words) for row in documents if row.id >> 20 == each["seq"]]
               for each in (first, second)]  # fmt: skip
    assert by_case[0] == by_case[1]
    assert len(by_case[0]) == 5
    for table in (ticket_references, messages, attachments):
        one, other = Counter(row.ticket_id for row in await database.fetch_all(sa.select(table))).values()
        assert one == other
    status = case_counts.c.status
    counts = sa.select(status, sa.func.sum(case_counts.c.number).label("n")).group_by(status)
    assert [(row.status, row.n) for row in await database.fetch_all(counts) if row.n] == [("open", 2)]
    (storage, *_) = [each for each in await compare_ledger(database) if each.storage == "local"]
    assert storage.ledger == storage.rows == FileTotals(2, 12)


async def test_second_run_changes_nothing(runner, database):
    """Whatever happened to the cases since: they are counted as known."""
    cases = [CASE, *(new(number, messages=[CUSTOMER]) for number in range(450))]
    assert await totals(runner, cases) == (451, 451, 0, 0)
    before = [await database.fetch_all(sa.select(table)) for table in metadata.sorted_tables]
    assert await totals(runner, [CASE | {"subject": "Changed"}, *cases[1:]]) == (451, 0, 451, 0)
    assert [await database.fetch_all(sa.select(table)) for table in metadata.sorted_tables] == before
    assert len([found async for found in runner.storage.list()]) == 1
    assert await totals(runner, [*cases, new(1000)]) == (452, 1, 451, 0)


async def test_case_that_the_api_opened_is_known(runner, client):
    """The external id is that of the API; it is unique in its channel.

    Of several lines with one external id, the first that is valid counts; the others are known.
    """
    await open_case(client, externalId="c1", channel="email")
    assert await totals(runner, [new(1), new(1, channel="chat"), new(2), new(2)]) == (4, 2, 2, 0)
    lines = [new(3, attachments=["none.txt"]), new(3, priority="none"), new(3), new(3), new(4)]
    assert await totals(runner, lines) == (5, 2, 1, 2)


async def test_customer_sees_no_internal_note_nor_file(runner, make_client):
    """Neither in the case nor in its version and time."""
    note = NOTE | {"attachment": "label.txt"}
    await totals(runner, [CASE | {"messages": [CUSTOMER, note], "closedAt": None}])
    client = await make_client()
    (item,) = (await list_cases(client))["items"]
    case = await read_case(client, item)
    assert [file["visibility"] for file in case["attachments"]] == ["internal"]
    (row,) = await runner.database.fetch_all(sa.select(tickets))
    assert (row.version, row.internal_changes, row.updated_at.year) == (4, 2, 2020)


async def test_lines_that_break_a_rule_are_refused_and_the_others_imported(runner, database, attachment_dir):
    """Bad UTF-8, long lines, NUL characters, deep JSON, links to other files, files and types that are not allowed."""
    (runner.folder / "passwd").symlink_to("/etc/passwd")
    (runner.folder / "big.txt").write_bytes(b"x" * 2_000)
    (runner.folder / "program.txt").write_bytes(b"\x7fELF" + bytes(100))
    deep = b'{"externalId":"d","subject":"A","channel":"email","context":[' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"]}"
    lines = [
        new(1),
        b"\xff\xfe{}",
        b'{"externalId":"n","subject":"\\u0000","channel":"email"}',
        deep,
        b'{"externalId":"l","subject":"' + b"x" * 16_777_216 + b'","channel":"email"}',
        [],
        "text",
        new(2, attachments=["passwd"]),
        new(3, attachments=["/etc/passwd"]),
        new(4, attachments=["../export/label.txt"]),
        new(5, attachments=["label.txt", "none.txt"]),
        new(6, attachments=["big.txt"]),
        new(7, attachments=["label.txt", {"path": "program.txt", "contentType": "text/plain"}]),
        new(8, status="done"),
        new(9, sentAt="2124-01-01T00:00:00Z"),
        new(10, messages=[{"authorType": "robot", "message": " "}]),
        new(11, messages=[CUSTOMER, CUSTOMER]),
        new(12, attachments=["label.txt"]),
        {"subject": "A", "channel": "email"},
        new(13),
    ]
    found = await totals(runner, lines, max_bytes=1_000, types="text/plain")
    assert runner.refusals == [
        *((2, "malformed_json", []), (3, "invalid_request", []), (4, "malformed_json", []), (5, "line_too_long", [])),
        *((line, "invalid_request", []) for line in (6, 7)),
        (14, "invalid_request", ["status"]),
        (15, "invalid_request", ["sentAt"]),
        (16, "invalid_request", ["messages.0.authorType", "messages.0.message"]),
        (17, "invalid_request", ["messages"]),
        (19, "invalid_request", ["externalId"]),
        *((line, "invalid_request", ["attachments"]) for line in (8, 9, 10, 11)),
        (12, "attachment_too_large", ["attachments"]),
        (13, "type_not_allowed", ["attachments"]),
    ]
    assert found == (20, 3, 0, 17)
    assert await count(database, tickets) == 3
    assert await count(database, attachments) == 1
    assert len([found async for found in runner.storage.list()]) == 1


async def test_missing_files_can_be_skipped(runner, database):
    """The case has the others, and its version counts only those."""
    case = CASE | {"attachments": ["none.txt", "label.txt"], "messages": [CUSTOMER | {"attachment": "none.txt"}]}
    assert await totals(runner, [case]) == (1, 0, 0, 1)
    assert await totals(runner, [case], dry_run=True, skip_missing=True) == (1, 1, 0, 0)
    assert await totals(runner, [case], skip_missing=True) == (1, 1, 0, 0)
    assert runner.missing == 1
    (row,) = await database.fetch_all(sa.select(tickets.c.version, messages.c.attachment_uri).join(messages))
    assert (row.version, row.attachment_uri) == (3, None)
    assert await count(database, attachments) == 1


async def test_dry_run_writes_nothing(runner, database, attachment_dir):
    """It tells what an import would do."""
    await totals(runner, [new(1)])
    before = [await database.fetch_all(sa.select(table)) for table in metadata.sorted_tables]
    cases = [CASE, new(1), new(2, attachments=["none.txt"]), b"no json", new(3, attachments=["label.txt"])]
    assert await totals(runner, cases, dry_run=True) == (5, 2, 1, 2)
    assert [await database.fetch_all(sa.select(table)) for table in metadata.sorted_tables] == before
    assert [found async for found in runner.storage.list()] == []


async def test_dry_run_counts_a_repeated_case_once(runner):
    """As the import does: a refused case is not there for its repeat."""
    repeated = [new(1), new(1, subject="Again"), new(2), new(1, channel="chat"), new(1)]
    refused = [new(3, attachments=["none.txt"]), new(3)]
    expected = (7, 4, 2, 1)
    assert await totals(runner, [*repeated, *refused], dry_run=True) == expected
    assert await totals(runner, [*repeated, *refused]) == expected


async def test_cancelled_import_stores_no_further_file(runner, attachment_dir):
    (runner.folder / "big.txt").write_bytes(b"x" * 8_000_000)
    others = asyncio.all_tasks()
    cases = [new(number, attachments=["big.txt"]) for number in range(16)]
    importing = asyncio.create_task(totals(runner, cases, max_bytes=10_000_000))
    await eventually(lambda: stored_files(attachment_dir))
    importing.cancel()
    await asyncio.wait({importing})
    assert importing.cancelled()
    assert asyncio.all_tasks() <= others


async def test_case_that_only_the_database_refuses_is_refused_alone(runner, database, monkeypatch):
    """The others of its batch are imported."""
    build = imported_case.build_case

    def without_priority(imported, *arguments):
        wanted = build(imported, *arguments)
        if imported.external_id == "c2":
            wanted.case.priority = None
        return wanted

    monkeypatch.setattr(imported_case, "build_case", without_priority)
    cases = [new(number, attachments=["label.txt"]) for number in range(5)]
    assert await totals(runner, cases) == (5, 4, 0, 1)
    assert runner.refusals == [(3, "invalid_request", [])]
    assert await count(database, attachments) == 4
    assert len([found async for found in runner.storage.list()]) == 4


async def test_two_cases_of_one_id_are_not_mixed(runner, database):
    """The first one is imported, and the second one is known, with its messages and files."""
    name = "8d7f0c7e-6a3c-4a0e-9d0f-6f0c2f6a9b11"
    cases = [new(1, id=name, customerId="ann"), new(2, id=name, customerId="bob", attachments=["label.txt"])]
    assert await totals(runner, cases) == (2, 1, 1, 0)
    (row,) = await database.fetch_all(sa.select(tickets.c.customer_id))
    assert (row.customer_id, await count(database, attachments)) == ("ann", 0)


async def test_simultaneous_imports_of_one_file(runner, database, tmp_path, attachment_dir):
    """Each case is imported by one of them, and its file is stored once."""
    other = ImportRunner(database, tmp_path / "other", attachment_dir)
    other.folder.mkdir()
    (other.folder / "label.txt").write_text("To Ann")
    cases = [new(number, messages=[CUSTOMER], attachments=["label.txt"]) for number in range(300)]
    found = await asyncio.gather(totals(runner, cases), totals(other, cases))
    assert sum(imported for _, imported, _, _ in found) == 300
    assert sum(known for _, _, known, _ in found) == 300
    assert [await count(database, table) for table in (tickets, messages, attachments, audit_log)] == [300] * 4
    assert len([file async for file in runner.storage.list()]) == 300
