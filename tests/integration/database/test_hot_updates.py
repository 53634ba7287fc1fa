"""Changes of idempotency keys on PostgreSQL stay on the page of their row, and touch no index."""

import pytest
import sqlalchemy as sa

from support_service.core.clock import utc_now
from support_service.platform.database.tables import idempotency_keys
from tests.support.calls import eventually

KEYS = 500
STATISTICS = sa.text(
    "SELECT n_tup_upd AS changed, n_tup_hot_upd AS hot FROM pg_stat_user_tables WHERE relname = 'idempotency_keys'"
)
OPTIONS = sa.text("SELECT reloptions AS options FROM pg_class WHERE relname = 'tickets'")


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_keys_that_many_requests_claim_at_once_have_room_for_their_responses(database):
    """With full pages most of the changes would need a new entry in each of four indexes."""
    now = utc_now()
    claim = {"request": "r" * 64, "owner": "o" * 36, "until": now, "state": "claimed", "created_at": now}
    async with database.transaction() as tx:
        await tx.execute(idempotency_keys.insert().inline(), [claim | {"id": f"{n:064}"} for n in range(KEYS)])
    done = {"state": "done", "status": 200, "body": b"{}"}
    async with database.transaction() as tx:
        await tx.execute(idempotency_keys.update().values(done))

    async def counted():
        row = await database.fetch_now(STATISTICS)
        return row if row.changed == KEYS else None

    assert (await eventually(counted)).hot >= 0.9 * KEYS


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_large_tables_are_vacuumed_before_a_fifth_is_dead(database):
    """By default PostgreSQL waits for a fifth of the rows: for 200,000 changes of a million cases."""
    assert "autovacuum_vacuum_scale_factor=0.02" in (await database.fetch_now(OPTIONS)).options
