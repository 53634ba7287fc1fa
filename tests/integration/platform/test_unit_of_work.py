"""Units of work: a committed write marks its idempotency claim, and a write without its claim is not committed."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from support_service.core.domain.principals import SYSTEM
from support_service.platform.audit import log
from support_service.platform.database.tables import idempotency_keys, timeline_overrides
from support_service.platform.idempotency_keys import IdempotencyService
from support_service.platform.unit_of_work import WriteOrigin, unit_of_work
from tests.conftest import both_databases
from tests.support.cases import code_of

AT = datetime(2026, 1, 1, tzinfo=UTC)
ROW = {"name": "ttl", "value": 1.0, "reason": "", "until": AT, "set_at": AT}


@pytest.fixture
def idempotency(database):
    return IdempotencyService(database)


@pytest.fixture
def expire_claims(database):
    async def expire():
        async with database.transaction() as tx:
            await tx.execute(idempotency_keys.update().values(until=datetime.now(UTC) - timedelta(seconds=1)))

    return expire


async def write(database, claim, cases=()):
    """Write a row with a claim, and record changes of `cases` in the audit log."""
    async with unit_of_work(database, WriteOrigin(SYSTEM, claim=claim)) as work:
        await work.tx.execute(timeline_overrides.insert(), ROW)
        for case_id in cases:
            await log.record(work, case_id, "case.changed", AT, {})


async def count_writes(database):
    return (await database.fetch_now(sa.select(sa.func.count()).select_from(timeline_overrides)))[0]


@both_databases
async def test_write_without_an_audit_entry_is_not_repeated(database, idempotency, expire_claims):
    """After a replica died between the commit and the response, a retry learns that the write has taken effect."""
    await write(database, await idempotency.claim_or_read_response("key", "request"))
    assert await code_of(idempotency.claim_or_read_response("key", "request")) == "idempotency_key_in_use"
    await expire_claims()
    assert await code_of(idempotency.claim_or_read_response("key", "request")) == "idempotency_answer_lost"
    assert await count_writes(database) == 1


@both_databases
@pytest.mark.parametrize(
    ("cases", "marked"),
    [
        ((), "addressed"),
        (("changed",), "changed"),
        (("changed", "changed"), "changed"),
        (("one", "other"), None),
        (("other", "addressed"), "addressed"),
    ],
)
async def test_claim_names_the_case_that_changed(database, idempotency, cases, marked):
    """That of the request, if it changed or none did; after changes of several other cases none."""
    await write(database, await idempotency.claim_or_read_response("key", "request", "addressed"), cases)
    row = await database.fetch_now(sa.select(idempotency_keys.c.state, idempotency_keys.c.case_id))
    assert tuple(row) == ("applied", marked)


@both_databases
async def test_background_jobs_are_told_of_committed_writes(database, idempotency, expire_claims):
    """A write whose claim was taken over is rolled back, and leaves nothing for them. One without a claim is made."""
    changed = database.changed.subscribe()
    changed.clear()
    slow = await idempotency.claim_or_read_response("key", "request")
    await expire_claims()
    await idempotency.claim_or_read_response("key", "request")
    assert await code_of(write(database, slow)) == "idempotency_key_in_use"
    assert (changed.is_set(), await count_writes(database)) == (False, 0)
    await write(database, None)
    assert (changed.is_set(), await count_writes(database)) == (True, 1)
