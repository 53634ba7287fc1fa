"""The floor of the benchmark does the service's work: it sends what the service sends, for other cases."""

import asyncio

import pytest
import sqlalchemy as sa
from benchmarks.floor import open_database
from benchmarks.recorded_requests import record

from support_service.core.ids import new_id
from support_service.platform.settings import Settings
from tests.conftest import both_databases

TABLES = ("tickets", "messages", "ticket_references", "attachments", "audit_log", "outbox")
WRITTEN = {
    "create": {"tickets": 1, "messages": 1, "ticket_references": 3, "audit_log": 1, "outbox": 1},
    "message": {"messages": 1, "audit_log": 1, "outbox": 1},
    "upload": {"attachments": 1, "audit_log": 1, "outbox": 1},
}


@both_databases
async def test_repeated_requests_write_the_rows_of_the_service(database, database_url, tmp_path):
    """Each repetition has rows of its own, and reads find them."""
    variables = {"SUPPORT_PORT": "0", "SUPPORT_ATTACHMENT_DIR": f"{tmp_path}/files"}
    recording = await record(Settings.load(variables | {"SUPPORT_DATABASE_URL": database_url}))

    async def numbers() -> dict[str, int]:
        counts = {name: sa.select(sa.func.count()).select_from(sa.table(name)) for name in TABLES}
        columns = [count.scalar_subquery().label(name) for name, count in counts.items()]
        return (await database.fetch_now(sa.select(*columns)))._asdict()

    async def added(name: str, case_id: str) -> dict[str, int]:
        before, recorded = await numbers(), recording.requests[name]
        for unit in recorded.units:
            await floor.run(unit, recorded.unique(case_id) | {"key": f"ab/{new_id()}", "digest": "0" * 64})
        return {table: number - before[table] for table, number in (await numbers()).items() if number > before[table]}

    [read] = recording.requests["get"].units
    async with open_database(database_url, recording.pragmas) as floor:
        for case_id in (new_id(), new_id()):
            for name in ("create", "message", "message", "upload"):
                assert await added(name, case_id) == WRITTEN[name]
            row = await floor.run(read, {"case": case_id, "version": 0})
            assert row["version"] == 4
            assert row["messages"].count('"id"') == 3
            assert (await floor.run(read, {"case": case_id, "version": 4}))["messages"] is None


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_requests_that_wait_together_share_a_statement(database, database_url, tmp_path):
    """As in the service: more requests than statements may be in progress, and each has its effect."""
    variables = {"SUPPORT_PORT": "0", "SUPPORT_ATTACHMENT_DIR": f"{tmp_path}/files"}
    recording = await record(Settings.load(variables | {"SUPPORT_DATABASE_URL": database_url}))
    [create] = recording.requests["create"].units
    assert [statement.is_shared for statement in create] == [True]
    case_ids = [new_id() for _ in range(9)]
    async with open_database(database_url, recording.pragmas) as floor:
        await asyncio.gather(*(floor.run(create, recording.requests["create"].unique(case_id)) for case_id in case_ids))
    stored = await database.fetch_all(sa.text("SELECT id FROM tickets").columns(sa.column("id")))
    assert {row.id for row in stored}.issuperset(case_ids)
    references = await database.fetch_all(
        sa.text("SELECT count(*) AS number FROM ticket_references GROUP BY ticket_id").columns(sa.column("number"))
    )
    assert {row.number for row in references} == {3}
