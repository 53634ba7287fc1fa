"""An erasure leaves of each column of the database what the column says."""

from datetime import UTC, datetime, timedelta

import pydantic_core
import pytest
import sqlalchemy as sa

from support_service.platform.database.dialect import POSITION_BITS, JsonValue, UtcDateTime
from support_service.platform.database.tables import ERASURE, metadata, tickets
from tests.conftest import both_databases
from tests.support.privacy.erasing import erase_customer

CASE, OTHER_CASE = "case-of-erased", "another-case"
DOCUMENT = (2 << POSITION_BITS) + 1  # the words of the first message of the second case
RULES = {(table.name, column.name): column.info[ERASURE] for table in metadata.tables.values() for column in table.c}
TRACED = [column for column, rule in RULES.items() if rule != "not personal"]


def trace(table, column):
    """Return a value of a column that no other one has, for the column's type."""
    number = TRACED.index((table, column))
    kind, text = metadata.tables[table].c[column].type, f"trace{number:03}"
    if isinstance(kind, UtcDateTime):
        return datetime(2021, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    if isinstance(kind, sa.Integer):
        return 910_000_000 + number
    if isinstance(kind, sa.LargeBinary):
        return text.encode()
    return [text] if isinstance(kind, JsonValue) else text


# Values that the erasure finds the rows by, or that it has to understand.
CUSTOMER = trace("tickets", "customer_id")
ROWS = {
    "tickets": {"id": CASE},
    "messages": {"ticket_id": CASE},
    "search_documents": {"id": DOCUMENT, "internal": False},
    "ticket_references": {"ticket_id": CASE},
    "case_links": {"case_id": CASE, "other_case_id": OTHER_CASE},
    "attachments": {"ticket_id": CASE, "storage": "local"},
    "staged_attachments": {"ticket_id": CASE, "storage": "local"},
    "attachment_deletions": {"ticket_id": CASE, "reason": "request"},
    "views": {"query": {"customerId": CUSTOMER, "q": trace("views", "query")[0]}, "version": 1},
    "outbox": {
        "case_id": CASE,
        "event": pydantic_core.to_json({"data": {"subject": trace("outbox", "event")}}).decode(),
    },
    "published_events": {
        "seq": 1,
        "case_id": CASE,
        "publication": 1,
        "event": pydantic_core.to_json({"data": {"subject": trace("published_events", "event")}}).decode(),
    },
    "webhook_deliveries": {
        "case_id": CASE,
        "event": pydantic_core.to_json({"data": {"subject": trace("webhook_deliveries", "event")}}).decode(),
        "state": "pending",
        "tries": 0,
    },
    "audit_log": {"case_id": CASE, "changes": f'{{"subject": [null, "{trace("audit_log", "changes")}"]}}'},
    "idempotency_keys": {"case_id": CASE, "state": "done", "until": datetime(2031, 2, 1, tzinfo=UTC)},
    "bulk_changes": {"expires_at": datetime(2031, 2, 1, tzinfo=UTC)},
    "bulk_items": {"bulk_id": trace("bulk_changes", "id"), "case_id": CASE, "outcome": "changed"},
    "case_clocks": {"case_id": CASE, "policy": 1, "public": False},
    "report_changes": {"case_id": CASE},
    "case_results": {"case_id": CASE},
    "notifications": {"case_id": CASE},
    "customers": {"id": CUSTOMER},
    "customer_terms": {"customer_id": CUSTOMER},
}
FOUND_BY = {  # traces that are the id of the case or of the customer, or are another text
    *(
        (table, name)
        for table, row in ROWS.items()
        for name, value in row.items()
        if value in (CASE, OTHER_CASE, CUSTOMER)
    )
}


def as_text(value):
    return value.isoformat() if isinstance(value, datetime) else repr(value)


async def stored(database):
    return {
        name: " ".join(as_text(value) for row in await database.fetch_all(sa.select(table)) for value in row)
        for name, table in metadata.tables.items()
    }


@pytest.fixture
async def traces(database):
    """A row of the customer in each table that has such, with a trace in each column; the texts of the traces."""
    async with database.transaction() as tx:
        other = {"id": OTHER_CASE, "subject": "Another", "status": "open", "priority": "low", "channel": "email"}
        at = datetime(2026, 5, 12, tzinfo=UTC)
        other |= {"context": [], "tags": [], "search_text": "", "created_at": at, "updated_at": at}
        await tx.execute(tickets.insert(), [other])
        for table, given in ROWS.items():
            row = {name: trace(table, name) for of, name in TRACED if of == table} | given
            await tx.execute(metadata.tables[table].insert(), [row])
    return {
        (table, name): as_text(trace(table, name)).strip("b'[]")
        for table, name in TRACED
        if table != "ticket_tags" and (table, name) not in FOUND_BY  # triggers keep the tags of a case
    } | {("search_documents", "words"): str(DOCUMENT)}  # SQLite does not read the words of a document


@both_databases
async def test_erasure_leaves_exactly_what_the_rules_keep(settings, database, traces):
    """Each column of a row about the customer has a value of its own, which an erasure leaves or not."""
    before = " ".join((await stored(database)).values())
    assert not [column for column, text in traces.items() if text not in before]
    receipt = await erase_customer(settings, CUSTOMER)
    assert (receipt.cases, receipt.unreached) == ([CASE], [])
    tables = await stored(database)
    after = " ".join(tables.values())
    left = {column for column, text in traces.items() if text in after}
    kept = {column for column in traces if RULES[column] == "kept"}
    assert left == kept, f"left against the rules: {left - kept}; erased against the rules: {kept - left}"
    emptied = {table for (table, _), rule in RULES.items() if table in ROWS and rule == "deleted"}
    assert {table for table in ROWS if not tables[table]} == emptied
