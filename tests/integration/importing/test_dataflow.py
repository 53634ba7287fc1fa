"""The database of the earlier support-service is read as it is, on SQLite and PostgreSQL, and is not changed."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from support_service.core.errors import Unavailable
from support_service.importing import dataflow
from support_service.importing.dataflow import open_earlier_database
from support_service.platform.database.shared import create_database
from support_service.platform.database.tables import attachments, tickets
from tests.support.calls import list_cases, read_case
from tests.support.importing import ImportRunner

TICKET, OTHER, FILE, OLD_FILE = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "abcd")
TABLES = (
    """
    CREATE TABLE support_tickets (
        id VARCHAR(36) PRIMARY KEY, subject VARCHAR(255) NOT NULL, description TEXT, customer_id VARCHAR(36),
        status VARCHAR(16) NOT NULL DEFAULT 'open', priority VARCHAR(16) NOT NULL DEFAULT 'normal',
        channel VARCHAR(32) NOT NULL, assigned_agent_id VARCHAR(36), context_json TEXT,
        created_at {time} NOT NULL, updated_at {time} NOT NULL
    )
    """,
    """
    CREATE TABLE support_conversations (
        id VARCHAR(36) PRIMARY KEY, ticket_id VARCHAR(36) NOT NULL REFERENCES support_tickets(id),
        author_type VARCHAR(16) NOT NULL, message TEXT NOT NULL, attachment_uri TEXT, sentiment VARCHAR(16),
        metadata_json TEXT, created_at {time} NOT NULL
    )
    """,
    """
    CREATE TABLE support_attachments (
        id VARCHAR(36) PRIMARY KEY, ticket_id VARCHAR(36) NOT NULL REFERENCES support_tickets(id),
        filename VARCHAR(255) NOT NULL, content_type VARCHAR(128) NOT NULL, size_bytes INTEGER NOT NULL,
        storage_path TEXT NOT NULL, uri TEXT NOT NULL, created_at {time} NOT NULL
    )
    """,
)
ROWS = (
    f"""
    INSERT INTO support_tickets VALUES
    ('{OTHER}', 'Later', NULL, NULL, 'open', 'medium', 'web', NULL, NULL, '2024-02-01 10:00:00', '2024-02-01 10:00:00'),
    ('{TICKET}', 'A parcel', 'It did not arrive', 'ann', 'closed', 'high', 'email', 'agent-1',
     '[{{"type": "order", "orderId": "O-1"}}]', '2024-01-01 10:00:00.250000', '2024-01-05 10:00:00')
    """,
    f"""
    INSERT INTO support_conversations VALUES
    ('m2', '{TICKET}', 'agent', 'Here', 'tickets/label.txt', 'neutral', NULL, '2024-01-02 10:00:00'),
    ('m1', '{TICKET}', 'customer', 'Where is it?', 's3://old/x', NULL, '{{"mood": 1}}', '2024-01-01 10:00:01'),
    ('m3', '{TICKET}', 'system', '', 'https://files.test/a b', NULL, '[1]', '2024-01-03 10:00:00')
    """,
    f"""
    INSERT INTO support_attachments VALUES
    ('{FILE}', '{TICKET}', 'label.txt', 'text/plain', 6, 'tickets/label.txt', 'tickets/label.txt', '2024-01-02 10:00'),
    ('{OLD_FILE}', '{TICKET}', 'old.txt', 'text/plain', 3, 'tickets/old.txt', 'tickets/old.txt', '2024-01-01 11:00')
    """,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def earlier_url(request, tmp_path):
    """The URL of a database of the earlier service."""
    is_sqlite = request.param == "sqlite"
    time = "DATETIME" if is_sqlite else "TIMESTAMPTZ"
    statements = [*(table.format(time=time) for table in TABLES), *ROWS]
    if is_sqlite:
        path = tmp_path / "earlier.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(";".join(statements))
        yield f"sqlite:///{path}"
        return
    server = request.getfixturevalue("postgres")
    name = server.create_database()
    server.run(f"SET timezone = 'UTC'; {';'.join(statements)}", name)
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture
def folder(tmp_path):
    """The attachment directory of the earlier service, whose script moved an old file to the archive."""
    for path, text in (("tickets/label.txt", "To Ann"), ("archive/tickets/old.txt", "old")):
        (tmp_path / "earlier" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "earlier" / path).write_text(text)
    return tmp_path / "earlier"


@pytest.fixture
def runner(database, folder, attachment_dir):
    return ImportRunner(database, folder, attachment_dir)


def stored(url):
    """Return the files of a SQLite database with their hashes; nothing for PostgreSQL."""
    path = Path(url.removeprefix("sqlite:///"))
    found = path.parent.glob(f"{path.name}*") if path.exists() else ()
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in found}


async def run(runner, url, **options):
    """Import the database; return (read, imported, known, refused)."""
    async with open_earlier_database(url) as earlier:
        ids = await dataflow.read_ticket_ids(earlier)
        assert ids == [TICKET, OTHER]
        assert await dataflow.count_files(earlier) == 2
        found = await runner.run(dataflow.read_tickets(earlier, ids, runner.folder), dataflow.map_ticket, **options)
    return (found.read, found.imported, found.already_stored, found.refused)


async def test_tickets_keep_their_ids_times_messages_and_files(runner, earlier_url, client):
    """The case is found under its address of the earlier service, and so are its files."""
    assert await run(runner, earlier_url) == (2, 2, 0, 0), runner.refusals
    assert [item["id"] for item in (await list_cases(client))["items"]] == [OTHER, TICKET]
    case = await read_case(client, {"id": TICKET})
    expected = {
        "subject": "A parcel",
        "description": "It did not arrive",
        "customerId": "ann",
        "status": "closed",
        "priority": "high",
        "channel": "email",
        "assignedAgentId": "agent-1",
        "context": [{"type": "order", "orderId": "O-1"}],
        "externalId": f"dataflow:{TICKET}",
        "createdAt": "2024-01-01T10:00:00.250000Z",
    }
    assert {name: case[name] for name in expected} == expected
    assert case["updatedAt"].startswith("2024-01-05T10:00:00")
    first, second, third = case["messages"]
    assert (first["message"], first["authorType"], first["externalId"]) == ("Where is it?", "customer", "m1")
    assert first["metadata"] == {"mood": 1, "attachmentUri": "s3://old/x"}
    assert second["attachmentUri"] == f"/support/cases/{TICKET}/attachments/{FILE}/label.txt"
    assert second["sentiment"] == "neutral"
    assert (third["authorType"], third["message"], third["metadata"]) == ("bot", "(no text)", {"value": [1]})
    assert third["attachmentUri"] == "https://files.test/a%20b"
    assert {file["id"]: file["filename"] for file in case["attachments"]} == {FILE: "label.txt", OLD_FILE: "old.txt"}
    async with client.get(f"/support/cases/{TICKET}/attachments/{OLD_FILE}/old.txt") as response:
        assert await response.text() == "old"


async def test_second_run_finds_every_case(runner, earlier_url, database):
    """It stores nothing, and changes nothing in the earlier database either."""
    before = stored(earlier_url)
    await run(runner, earlier_url)
    assert await run(runner, earlier_url) == (2, 0, 2, 0)
    assert len(await database.fetch_all(sa.select(tickets.c.id))) == 2
    assert len(await database.fetch_all(sa.select(attachments.c.id))) == 2
    assert stored(earlier_url) == before


@pytest.mark.parametrize("text", ["{broken", "[" * 900 + "]" * 900], ids=["broken", "deep"])
async def test_ticket_with_json_that_can_not_be_read_is_refused(runner, earlier_url, text):
    """The limits are the limits of all JSON. The others are imported."""
    change = f"UPDATE support_tickets SET context_json = '{text}' WHERE id = '{TICKET}'"
    if earlier_url.startswith("sqlite:"):
        with closing(sqlite3.connect(earlier_url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute(change)
    else:
        database = create_database(earlier_url)
        await database.execute(sa.text(change))
        await database.close()
    assert await run(runner, earlier_url) == (2, 1, 0, 1)
    assert runner.refusals == [(1, "malformed_json", [])]


async def test_database_without_its_tables_is_refused_in_one_line(tmp_path, database_url):
    """It is another database, or the path is wrong; no file is created."""
    for url in (database_url, f"sqlite:///{tmp_path / 'none.db'}"):
        async with open_earlier_database(url) as earlier:
            with pytest.raises(Unavailable, match="earlier service can't be read") as failure:
                await dataflow.read_ticket_ids(earlier)
        assert "\n" not in str(failure.value)
    assert stored(f"sqlite:///{tmp_path / 'none.db'}") == {}
