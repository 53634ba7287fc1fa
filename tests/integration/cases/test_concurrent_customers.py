"""Changes, merges, separations, erasures and deletions of customers at once, by two replicas."""

import asyncio
import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from support_service.core.clock import utc_now
from support_service.desk import customers as customer_rows
from support_service.desk.customer_models import MAX_IDENTITIES, CustomerChange, CustomerContent, person_columns
from support_service.desk.customers import (
    CustomerRecords,
    add_absent,
    erase_contents,
    read_content,
    remove,
    remove_unused,
)
from support_service.platform.database import DatabaseTimings
from support_service.platform.database.shared import create_database
from support_service.platform.database.tables import audit_log, customer_terms, customers
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.calls import eventually
from tests.support.cases import code_of
from tests.support.timings import PATIENT_POSTGRES

IDS = [f"c-{number}" for number in range(8)]
REFUSALS = {
    None,
    "customer_already_merged",
    "customer_merged",
    "customer_not_found",
    "identity_not_found",
    "too_many_identities",
}


async def in_transaction(database, change):
    async with database.transaction() as tx:
        await change(tx)


def put(database, customer_id, **fields):
    return CustomerRecords(database).change(SYSTEM_ORIGIN, customer_id, CustomerChange(**fields))


def merge(database, customer_id, into):
    return CustomerRecords(database).merge(SYSTEM_ORIGIN, customer_id, into)


def separate(database, customer_id, other):
    return CustomerRecords(database).separate(SYSTEM_ORIGIN, customer_id, other)


async def check(database):
    """Fail if what follows from contents and merges is out of step with them; return the records by their ids."""
    rows = {row.id: row for row in await database.fetch_all(sa.select(customers))}
    merged_into = {each: row.merged_into for each, row in rows.items()}
    assert {each for each in merged_into.values() if each} <= rows.keys()
    assert {each: row.person for each, row in rows.items()} == person_columns(merged_into)
    for each, row in rows.items():
        of_other = row.person not in (None, each)
        assert row.person_name == (rows[row.person].name if of_other else None)
    sizes = Counter(row.person for row in rows.values() if row.person)
    assert all(1 < size <= MAX_IDENTITIES for size in sizes.values())
    terms = await database.fetch_all(sa.select(customer_terms.c.customer_id, customer_terms.c.term))
    expected = {(each, term) for each in rows for term in (await read_content(database, each)).terms}
    assert Counter((row.customer_id, row.term) for row in terms) == Counter(expected)
    return rows


async def actions(database):
    rows = await database.fetch_all(sa.select(audit_log.c.action))
    return Counter(row.action for row in rows)


@both_databases
async def test_merges_that_cross_make_one_person(two_databases, database):
    """A into B while B goes into A, and around a circle: one merge less than ids, and no circle."""
    for each in IDS:
        await put(database, each, name=each)
    pairs = list(zip(IDS[:4:2], IDS[1:4:2], strict=True))
    circle = list(zip(IDS[4:], [*IDS[5:], IDS[4]], strict=True))
    codes = await asyncio.gather(
        *(code_of(merge(two_databases[0], *pair)) for pair in pairs),
        *(code_of(merge(two_databases[1], *reversed(pair))) for pair in pairs),
        *(code_of(merge(two_databases[number % 2], *pair)) for number, pair in enumerate(circle)),
    )
    assert set(codes) == {None}
    rows = await check(database)
    assert sorted(Counter(row.person for row in rows.values()).values()) == [2, 2, 4]
    assert (await actions(database))["customer.merged"] == len(pairs) + len(circle) - 1


@both_databases
async def test_merges_and_separations_that_repeat_at_once_are_made_once(two_databases, database):
    """A repeat of a merge changes nothing, and one of a separation finds nothing to separate."""
    one, other = IDS[:2]
    for each in (one, other):
        await put(database, each, name=each)
    merges = [code_of(merge(two_databases[number % 2], one, other)) for number in range(6)]
    assert await asyncio.gather(*merges) == [None] * 6
    await check(database)
    separations = [code_of(separate(two_databases[number % 2], other, one)) for number in range(6)]
    assert Counter(await asyncio.gather(*separations)) == {None: 1, "identity_not_found": 5}
    await check(database)
    assert {"customer.merged": 1, "customer.separated": 1}.items() <= (await actions(database)).items()


@both_databases
async def test_person_has_no_more_ids_than_allowed_after_merges_at_once(two_databases, database):
    ids = [f"i-{number}" for number in range(MAX_IDENTITIES + 4)]
    for each in ids:
        await put(database, each)
    codes = await asyncio.gather(
        *(code_of(merge(two_databases[number % 2], each, ids[0])) for number, each in enumerate(ids[1:]))
    )
    assert Counter(codes) == {None: MAX_IDENTITIES - 1, "too_many_identities": 4}
    await check(database)


@both_databases
async def test_any_changes_at_once_leave_records_in_step(two_databases, database):
    """Whatever the order: no change fails, links have no circle, and what follows from them is right.

    In the end an erasure leaves nothing of what was written, whichever request writes it.
    """
    draw = random.Random(33)
    young = utc_now() - timedelta(days=1)

    def any_change(number):
        replica, one, other = two_databases[number % 2], *draw.sample(IDS, 2)
        changes = (
            lambda: put(replica, one, name=f"Name {number}"),
            lambda: put(replica, one, contacts=[{"kind": "other", "value": f"contact {number}"}]),
            lambda: merge(replica, one, other),
            lambda: merge(replica, one, other),
            lambda: separate(replica, one, other),
            lambda: in_transaction(replica, lambda tx: erase_contents(tx, [one, other])),
            lambda: in_transaction(replica, lambda tx: remove(tx, [one])),
            lambda: in_transaction(replica, lambda tx: remove_unused(tx, [one, other], young)),
        )
        return draw.choice(changes)()

    found = Counter()
    for start in range(0, 240, 24):
        found.update(await asyncio.gather(*(code_of(any_change(start + number)) for number in range(24))))
        await check(database)
    assert found.keys() <= REFUSALS
    assert found[None] > 60, found
    async with database.transaction() as tx:
        await erase_contents(tx, IDS)
    rows = await check(database)
    assert {(row.name, row.person_name, row.notes, *row.contacts) for row in rows.values()} <= {(None, None, None)}
    assert all([await read_content(database, each) == CustomerContent() for each in rows])


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_record_that_is_added_during_an_erasure_is_found_by_what_it_says(two_databases, database):
    """It becomes visible between the terms and the contents that are erased."""
    erased, added = IDS[:2]
    await put(database, erased, name="Ann")
    waits = sa.text("SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted")
    async with two_databases[0].transaction() as holding:
        await holding.fetch_all(sa.select(customer_terms).with_for_update())
        async with two_databases[1].transaction() as adding:
            await add_absent(adding, {added: CustomerContent(name="Bob")})
            erasing = asyncio.create_task(in_transaction(database, lambda tx: erase_contents(tx, [erased, added])))
            await eventually(lambda: two_databases[0].fetch_now(waits))
    await erasing
    await check(database)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_merges_that_wait_leave_connections_to_other_changes(database, database_url):
    """Merges wait for each other. Others, and many changes of one record, do not wait with them."""
    timings = DatabaseTimings(postgres=replace(PATIENT_POSTGRES, pool_timeout=0.5))
    small = create_database(database_url, pool_size=4, timings=timings)
    await small.open()
    for each in IDS:
        await put(small, each, name="A")
    async with database.transaction() as tx:
        await tx.fetch_now(customer_rows.LOCK_MERGES)
        await tx.fetch_now(customer_rows.LOCK_RECORD, {"id": IDS[0]})
        waiting = [asyncio.create_task(code_of(merge(small, each, IDS[1]))) for each in IDS[2:]]
        waiting += [asyncio.create_task(code_of(put(small, IDS[0], name=each))) for each in IDS]
        await eventually(lambda: small.pool.used >= 2)
        assert await code_of(put(small, IDS[7], name="B")) is None
    await asyncio.gather(*waiting)
    await small.close()
