"""SQLite's write-ahead log is moved into the database in the background."""

import asyncio
import sqlite3

import pytest
import sqlalchemy as sa

from support_service.platform.database import SqliteTimings
from support_service.platform.database.sqlite.engine import SqliteDatabase
from support_service.platform.database.tables import audit_head
from tests.support.calls import eventually


@pytest.mark.parametrize(
    ("failure", "logged"),
    [
        (LookupError("unforeseen"), "unforeseen"),
        (sqlite3.OperationalError("disk I/O error"), "The database can't answer now; try again"),
    ],
)
async def test_failed_checkpoint_is_retried(database_url, caplog, failure, logged):
    """The failure is logged, an outage as such and a defect with its traceback, and the database works meanwhile."""
    database = SqliteDatabase(database_url, timings=SqliteTimings(checkpoint_interval=0.0))
    await database.open()
    tries = []

    def fail_once(_connection):
        tries.append(1)
        if len(tries) == 1:
            raise failure

    sa.event.listen(sa.Engine, "engine_connect", fail_once)

    async def write():
        async with database.transaction() as tx:
            await tx.execute(audit_head.update().values(position=0))

    for number in (1, 2):
        await write()
        await eventually(lambda number=number: len(tries) >= number)
    await asyncio.sleep(0)
    await database.close()
    sa.event.remove(sa.Engine, "engine_connect", fail_once)
    (record,) = caplog.records
    assert record.message == "The write-ahead log could not be checkpointed"
    assert str(record.exc_info[1]) == logged
