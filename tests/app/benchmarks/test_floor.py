"""The floor of the benchmark does the service's work: it sends what the service sends, for other cases."""

import sqlite3

import pytest
from benchmarks.floor import open_database
from benchmarks.recorded_requests import record

from support_service.core.ids import new_id
from support_service.platform.database import migrate
from support_service.platform.settings import Settings

TABLES = ("tickets", "messages", "ticket_references", "audit_log", "outbox")


@pytest.fixture
def settings(tmp_path):
    """The settings of a service with an empty database and without upstream services."""
    url = f"sqlite:///{tmp_path}/cases.db"
    migrate.upgrade(url)
    variables = {"SUPPORT_PORT": "0", "SUPPORT_DATABASE_URL": url, "SUPPORT_ATTACHMENT_DIR": f"{tmp_path}/files"}
    return Settings.load(variables)


async def test_repeated_requests_write_the_rows_of_the_service(settings):
    """Each repetition has rows of its own, and reads find them."""
    recording = await record(settings)
    path = settings.database.url.removeprefix("sqlite:///")
    database = await open_database(settings.database.url, recording.pragmas)

    def numbers() -> dict[str, int]:
        with sqlite3.connect(path) as connection:
            return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES}

    async def added(name: str, case_id: str) -> dict[str, int]:
        before, recorded = numbers(), recording.requests[name]
        for unit in recorded.units:
            await database.run(unit, recorded.unique(case_id) | {"key": f"ab/{new_id()}", "digest": "0" * 64})
        return {table: number - before[table] for table, number in numbers().items() if number > before[table]}

    for case_id in (new_id(), new_id()):
        rows = {"tickets": 1, "messages": 1, "ticket_references": 3, "audit_log": 1, "outbox": 1}
        assert await added("create", case_id) == rows
        for _ in range(2):
            assert await added("message", case_id) == {"messages": 1, "audit_log": 1, "outbox": 1}
        assert await added("upload", case_id) == {"audit_log": 1, "outbox": 1}
        [unit] = recording.requests["get"].units
        row = await database.run(unit, {"case": case_id, "version": 0})
        assert row["version"] == 4
        assert row["messages"].count('"id"') == 3
        assert (await database.run(unit, {"case": case_id, "version": 4}))["messages"] is None
