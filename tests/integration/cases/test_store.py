"""SQL of cases, on both databases."""

import json
import unicodedata
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
import sqlalchemy as sa

from support_service.cases import case_erasure
from support_service.cases.listing import case_list
from support_service.cases.model.case import CaseSummary, Message
from support_service.cases.model.published import CASE_UPDATED
from support_service.cases.model.requests import CaseQuery
from support_service.cases.sql import case_events, case_reading, case_rows, import_rows
from support_service.core.domain.principals import SYSTEM
from support_service.core.search_words import search_words
from support_service.platform.database import tables
from support_service.platform.database.tables import ticket_references
from tests.conftest import both_databases
from tests.support.cases import AT, ticket

pytestmark = both_databases


def message(number=1, case=1, **fields):
    values = {"author_type": "agent", "message": "Hello", "attachment_uri": None, "sentiment": None, "metadata": None}
    values["visibility"] = "public"
    identity = {"id": f"message-{number}", "ticket_id": f"case-{case}", "created_at": AT}
    return Message.model_construct(**identity | values | fields)


def state_after(answered_at, *messages):
    size = case_rows.MIN_MESSAGE_BYTES * len(messages)
    at = messages[-1].created_at
    access = {"customer_id": None, "assigned_agent_id": None, "team": None}
    counts = {"version": 1 + len(messages), "internal_changes": 0, "conversation_bytes": size}
    return case_rows.CaseState(at, AT, answered_at, synthetic=False, status="open", **access, **counts)


async def references(database):
    statement = sa.select(ticket_references.c.ticket_id, ticket_references.c.kind, ticket_references.c.value)
    return sorted(tuple(row) for row in await database.fetch_all(statement))


async def listed(database, query, after=None, **bound):
    page = await case_list.find_cases(database, query, after, SYSTEM, **bound)
    return [each.id for _, each in page.cases], page.has_more


async def test_case_is_read_as_it_was_stored(database, add_cases):
    """The conversation is in order, and every value is unchanged."""
    context = [{"type": "order", "orderId": "ORD-1", "deep": {"a": [1, 2.5, None, True, 'đ\n"\\']}}]
    context.append(json.loads('{"a":' * 30 + "1" + "}" * 30))  # a body has at most 32 levels
    values = {"tags": ["a", "b"], "description": "x\ty", "customer_id": "c", "assigned_agent_id": "a"}
    values["external_id"] = "ế" * 255
    stored = ticket(context=context, sent_at=datetime(1970, 1, 1, tzinfo=UTC), **values)
    await add_cases(stored, ticket(2))
    messages = []
    for number in range(12):
        times = {"sent_at": AT - timedelta(microseconds=number), "created_at": AT + timedelta(seconds=number + 1)}
        messages.append(message(number, message=f"{number} 😀", metadata={"n": [number]}, **times))
    async with database.transaction() as tx:
        for each in messages:
            await case_rows.add_message(tx, each)
        await case_rows.add_message(tx, message(99, case=2))
    case = await case_rows.get(database, "case-1")
    summary = CaseSummary.model_construct(**{name: getattr(case, name) for name in CaseSummary.model_fields})
    assert summary == stored.model_copy(update={"version": 13, "updated_at": AT + timedelta(seconds=12)})
    assert (case.messages, case.attachments) == (messages, [])
    assert await case_rows.get(database, "nobody") is None


async def test_update_writes_only_the_named_fields(database, add_cases):
    """The time of the change and the search index follow."""
    await add_cases(ticket())
    later = ticket(subject="New", status="closed", priority="high", updated_at=AT + timedelta(hours=1))
    async with database.transaction() as tx:
        assert (await case_rows.lock(tx, "case-1")).subject == "Đơn hàng"
        await case_rows.update(tx, later, {"subject"})
    case = await case_rows.get(database, "case-1")
    assert (case.subject, case.status, case.priority) == ("New", "open", "normal")
    assert case.updated_at == AT + timedelta(hours=1)
    assert await listed(database, CaseQuery(q="new")) == (["case-1"], False)
    assert await listed(database, CaseQuery(q="don")) == ([], False)


async def test_references_lead_to_their_case(database, add_cases):
    """New references replace the old ones of the same case."""
    await add_cases(ticket(1), references=[("order", "ORD-1"), ("payment", "PAY-1")])
    await add_cases(ticket(2), references=[("order", "ORD-1")])
    assert await references(database) == [
        ("case-1", "order", "ORD-1"),
        ("case-1", "payment", "PAY-1"),
        ("case-2", "order", "ORD-1"),
    ]
    async with database.transaction() as tx:
        await case_rows.replace_references(tx, "case-1", [("shipment", "SHP-1")])
    assert await references(database) == [("case-1", "shipment", "SHP-1"), ("case-2", "order", "ORD-1")]


async def test_synthetic_cases_are_listed_by_their_channel_only(database, add_cases):
    """Whatever the channel is called. Cases without the column, of an earlier release, are synthetic by its name."""
    synthetic = {1: None, 2: True, 3: None, 4: False}
    channels = ("email", "monitoring", "synthetic", "synthetic")
    await add_cases(*(ticket(number, channel=channel) for number, channel in enumerate(channels, 1)))
    async with database.transaction() as tx:
        for number, value in synthetic.items():
            case = tables.tickets.c.id == f"case-{number}"
            await tx.execute(tables.tickets.update().where(case).values(synthetic=value))
    assert await listed(database, CaseQuery()) == (["case-4", "case-1"], False)
    assert await listed(database, CaseQuery(channel="monitoring")) == (["case-2"], False)
    assert await listed(database, CaseQuery(channel="synthetic")) == (["case-4", "case-3"], False)


async def test_page_of_large_cases_ends_early(database, add_cases):
    """A page has at least one case, and ends at MAX_PAGE_BYTES. The next page continues there."""
    large = {"context": [{"a": "đ" * 1024}]}, {"description": "đ" * 1024}
    await add_cases(*(ticket(number, **large[number % 2]) for number in range(5)), ticket(5))
    for bound, pages in ((3 * 2048, [4, 2]), (1, [1] * 6), (6 * 3072, [6])):
        seen, sizes, after, more = [], [], None, True
        while more:
            page = await case_list.find_cases(database, CaseQuery(), after, SYSTEM, max_bytes=bound)
            seen += [each.id for _, each in page.cases]
            sizes.append(len(page.cases))
            after, more = page.cases[-1][0], page.has_more
        assert seen == [f"case-{number}" for number in (5, 4, 3, 2, 1, 0)]
        assert sizes == pages


async def test_page_ends_at_4_mib(database, add_cases):
    """Of the JSON of its cases, and with the case that reaches them. Characters count as JSON escapes them."""
    large = {"context": [{"a": "x" * 65_000}], "description": "\u00a0" * 65_000}  # two bytes each
    await add_cases(*(ticket(number, **large) for number in range(23)))
    found, more = await listed(database, CaseQuery(limit=30))
    assert (found, more) == ([f"case-{number}" for number in range(22, 0, -1)], True)
    escaped = [ticket(number, description="\x01" * 3413) for number in range(30, 35)]  # 20,478 bytes in JSON
    await add_cases(*escaped)
    assert await listed(database, CaseQuery(), max_bytes=2 * 20_480) == (["case-34", "case-33"], True)


async def test_adding_a_message_updates_its_case(database, add_cases):
    """The result is the state of the case after the message."""
    await add_cases(ticket())
    later = AT + timedelta(days=1)
    asked = message(1, author_type="customer", created_at=AT + timedelta(hours=1))
    answer = message(2, created_at=later, message="đ\n", metadata={"a": ["đ", 1]}, attachment_uri="/a")
    another = message(3, created_at=later + timedelta(days=1))
    async with database.transaction() as tx:
        assert await case_rows.add_message(tx, asked) == state_after(None, asked)
        assert await case_rows.add_message(tx, answer) == state_after(later, asked, answer)
        assert await case_rows.add_message(tx, another) == state_after(later, asked, answer, another)
        assert await case_rows.add_message(tx, message(4, case=7)) is None
    assert (await case_rows.get(database, "case-1")).updated_at == later + timedelta(days=1)


async def test_each_message_has_the_version_that_it_made(database):
    """Whatever adds it: an opening, a request, an event or an import. Customers don't see notes, so those have none."""
    note = {"visibility": "internal"}
    imported = [message(4, case=2), message(5, case=2, **note), message(6, case=2)]
    async with database.transaction() as tx:
        await case_rows.add_case(tx, ticket(), [], message(0))
        await case_rows.add_message(tx, message(1, **note))
        await case_rows.add_message(tx, message(2))
        cases = await tx.fetch_all(sa.select(tables.tickets))
        await case_rows.add_bot_messages(tx, cases, [message(3, author_type="bot")])
        await import_rows.add_histories(tx, [import_rows.CaseHistory(ticket(2), imported, [], [])])
    stored = tables.messages.c
    rows = await database.fetch_all(sa.select(stored.version, stored.public_version).order_by(stored.seq))
    assert [tuple(row) for row in rows] == [(1, 1), (2, None), (3, 2), (4, 3), (2, 2), (3, None), (4, 3)]


async def test_epoch_of_a_timeline_only_rises(database, add_cases):
    """No later one is that of a snapshot which an event or an erasure has made outdated."""
    await add_cases(ticket())
    epochs = [await _epoch(database)]
    async with database.transaction() as tx:
        cases = await tx.fetch_all(sa.select(tables.tickets))
        await case_rows.add_bot_messages(tx, cases, [message(author_type="bot", created_at=AT + timedelta(hours=1))])
    epochs.append(await _epoch(database))
    async with database.transaction() as tx:
        await case_erasure.erase_case(tx, "case-1", ["email"])
    epochs.append(await _epoch(database))
    assert epochs == [0, 1, 2]


async def _epoch(database):
    return (await database.fetch_now(sa.select(tables.tickets.c.timeline_epoch)))[0]


async def test_times_of_a_published_case_end_in_z(database, add_cases):
    """The database writes them, with microseconds, in the form of all other times of an event."""
    await add_cases(ticket(1))
    async with database.transaction() as tx:
        await case_events.append(tx, "case-1", CASE_UPDATED, AT)
    (row,) = await database.fetch_all(sa.select(tables.outbox.c.event))
    event = json.loads(row.event)
    times = (event["time"], event["data"]["ticket"]["createdAt"], event["data"]["ticket"]["updatedAt"])
    assert times == ("2026-01-01T12:00:00.000001Z",) * 3


async def test_workload_counts_the_cases_of_an_agent_by_status(database, add_cases):
    await add_cases(*(ticket(number, assigned_agent_id="a", status="open") for number in range(3)))
    await add_cases(ticket(7, assigned_agent_id="a", status="closed"), ticket(8, assigned_agent_id="b"))
    assert await case_list.count_cases_by_status(database, "a") == {"open": 3, "closed": 1}
    assert await case_list.count_cases_by_status(database, "nobody") == {}


WORDS = (
    "Đơn hàng ORD-1001 thiếu món; e-mail a.b@example.com, 12e5 3.14 -7 +84901 x_y Ünïcode ﬁne ½ ² Straße 日本語 0x1F"
)


async def test_every_word_is_found_by_each_of_its_prefixes(database, add_cases):
    """This holds on both databases."""
    await add_cases(ticket(1, subject=WORDS), ticket(2, subject="qqq"))
    for prefix in {word[:length] for word in search_words(WORDS) for length in range(1, len(word) + 1)}:
        assert await listed(database, CaseQuery(q=prefix)) == (["case-1"], False), prefix


async def test_every_letter_that_normalization_changes_is_found(database, add_cases):
    """The words of a query are never read as operators: NFKC turns three of these letters into NOT."""
    changed = [letter for letter in map(chr, range(0x110000)) if unicodedata.normalize("NFKC", letter) != letter]
    by_words = {tuple(search_words(letter)): letter for letter in changed}  # one of the letters with the same words
    letters = [letter for words, letter in by_words.items() if words]
    assert len(letters) > 2000
    await add_cases(ticket(1, subject="ᴺᴼᵀ ᴬᴺᴰ ᴼᴿ", description=" ".join(letters)), ticket(2, subject="qqq"))
    groups = [" ".join(letters[start : start + 50]) for start in range(0, len(letters), 50)]
    for words in ["ᴺᴼᵀ", "ᴬᴺᴰ", "ᴼᴿ", "not and or", "NEAR", *groups]:
        expected = ([], False) if words == "NEAR" else (["case-1"], False)
        assert await listed(database, CaseQuery.model_construct(q=words, limit=50)) == expected, words


async def test_words_beyond_the_search_limit_are_not_found(database, add_cases):
    """The case is stored whole, and found by the first words of its description."""
    squares = map(chr, range(0x3300, 0x3358))  # each expands to up to six letters of three bytes
    words = ["".join(pair) + "\u3316" * 9 for pair in product(squares, repeat=2)][:5460]
    text = " ".join(["kilometre", *words[1:], "late"])
    await add_cases(ticket(description=text))
    assert (await case_rows.get(database, "case-1")).description == text
    for word in ("kilometre", words[1]):
        assert await listed(database, CaseQuery(q=word)) == (["case-1"], False)
    async with database.transaction() as tx:
        await case_rows.update(tx, ticket(description=text + "!"), {"description"})
    assert await listed(database, CaseQuery(q="kilometre")) == (["case-1"], False)
    assert await listed(database, CaseQuery(q="late")) == ([], False)


async def add_files(database, number):
    row = {"ticket_id": "case-1", "content_type": "a/b", "size_bytes": 1, "sha256": "0" * 64, "storage": "local"}
    rows = [
        row | {"id": f"file-{each}", "filename": "a", "storage_key": str(each), "created_at": AT}
        for each in range(number)
    ]
    async with database.transaction() as tx:
        await tx.execute(tables.attachments.insert(), rows)


@pytest.mark.parametrize(
    ("fields", "files", "inline"),
    [
        ({"description": "x" * 65_536, "context": [{"a": "x" * 65_000}]}, 100, True),
        ({"description": "\N{GRINNING FACE}" * 65_536}, 0, False),  # each has four bytes
        ({"description": "\N{GRINNING FACE}" * 50_000, "context": [{"a": "x" * 65_000}]}, 0, False),
        ({}, 257, False),
    ],
)
async def test_long_case_without_messages_is_not_read_inline(database, fields, files, inline):
    """The description, the context and the files count, too."""
    async with database.transaction() as tx:
        await case_rows.add_case(tx, ticket(**fields), [])
    if files:
        await add_files(database, files)
    stored = await case_reading.read(database, "case-1")
    assert (stored.version, stored.fields is not None, stored.attachments is not None) == (1, inline, inline)
    whole = await case_reading.read(database, "case-1", any_size=True)
    assert len(json.loads(whole.attachments)) == files
    assert json.loads(whole.fields)["description"] == fields.get("description")
