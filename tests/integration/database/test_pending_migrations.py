"""Migration 0002 learns from the conversations that are there, and loses nothing on its way up or down."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from support_service.cases.sql import case_rows
from support_service.platform.database import migrate
from support_service.platform.database.dialect import UtcDateTime
from support_service.platform.database.opening import create_database
from support_service.platform.database.tables import tickets
from tests.support.sessions import in_thread, inspect
from tests.support.timings import PATIENT_DATABASE

AT = datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=UTC)
# Who speaks in a case, and then whose word waits and which is the first answer, by its place.
TALKS = {
    "silent": ("", None, None),
    "asked": ("c", 0, None),
    "asked-twice": ("cbc", 0, None),
    "answered": ("ca", None, 1),
    "asked-again": ("cacc", 2, 1),
    "by-an-agent": ("a", None, 0),
    "by-an-agent-and-asked": ("abac", 3, 0),
    "by-a-bot": ("b", None, None),
}
AUTHORS = {"a": "agent", "b": "bot", "c": "customer"}


@pytest.fixture(params=["sqlite", "postgresql"])
def old_url(request, tmp_path):
    """The address of a database as release 0001 left it."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/old.db"
        in_thread(migrate.upgrade, url, "0001")
        yield url
        return
    server = request.getfixturevalue("postgres")
    name = server.create_database()
    in_thread(migrate.upgrade, server.url(name), "0001")
    yield server.url(name)
    server.drop_database(name)


def at(place):
    """When the word in a place was said."""
    return AT + timedelta(minutes=place)


def old_table(name):
    """A table as release 0001 had it, as far as it must be filled."""
    new = case_rows.tickets if name == "tickets" else case_rows.messages
    added = ("seq", "waiting_since", "answered_at")
    return sa.table(name, *(sa.column(each.name, each.type) for each in new.columns if each.name not in added))


def fill(url):
    """Keep the conversations above."""
    cases, words = old_table("tickets"), old_table("messages")

    def insert(connection):
        for case, (talk, *_) in TALKS.items():
            ticket = {"id": case, "subject": case, "status": "open", "priority": "low", "channel": "email"}
            ticket |= {"context": [], "tags": [], "created_at": AT, "updated_at": AT, "search_text": case}
            connection.execute(sa.insert(cases).values(ticket))
            for place, who in enumerate(talk):
                word = {"id": f"{case}-{place}", "ticket_id": case, "author_type": AUTHORS[who], "message": f"{place}"}
                connection.execute(sa.insert(words).values(word | {"created_at": at(place)}))
        connection.commit()

    inspect(url, insert)


async def read(url, *columns):
    """Columns of every ticket and the number of its messages, by its id."""
    count = sa.text("(SELECT count(*) FROM messages WHERE ticket_id = tickets.id)")
    database = create_database(url, timings=PATIENT_DATABASE)
    await database.open()
    rows = await database.fetch_all(sa.select(tickets.c.id, tickets.c.created_at, count, *columns).select_from(tickets))
    await database.close()
    return {row[0]: tuple(row)[1:] for row in rows}


async def test_old_conversations_fill_the_new_columns(old_url):
    """After the upgrade each case says since when its customer waits and when an agent first answered."""
    fill(old_url)
    in_thread(migrate.upgrade, old_url)
    times = (tickets.c.waiting_since, tickets.c.answered_at)
    assert isinstance(times[0].type, UtcDateTime)
    expected = {
        case: (AT, len(talk), *(None if place is None else at(place) for place in places))
        for case, (talk, *places) in TALKS.items()
    }
    assert await read(old_url, *times) == expected


async def test_down_and_up_keeps_every_case(old_url):
    """Down again every case and message is there, without the columns; up again the columns are as they were."""
    fill(old_url)
    before = await read(old_url)
    in_thread(migrate.upgrade, old_url)
    times = (tickets.c.waiting_since, tickets.c.answered_at)
    filled = await read(old_url, *times)
    in_thread(migrate.downgrade, old_url, "0001")
    assert await read(old_url) == before
    in_thread(migrate.upgrade, old_url)
    assert await read(old_url, *times) == filled
