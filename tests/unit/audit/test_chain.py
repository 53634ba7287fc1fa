"""The chain of the audit log: whatever is altered in it is found, and the database refuses to alter it at all."""

import asyncio
import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from support_service import database as databases
from support_service.audit import chain, log, sealer, store
from support_service.audit.chain import GENESIS, ChainHead
from support_service.audit.sealer import Sealer, SealerTimings
from support_service.audit.verify import VerifyLimits, verify_chain
from support_service.core.principals import Principal
from support_service.database.tables import audit_head, audit_log
from support_service.idempotency.unit_of_work import SYSTEM_CONTEXT, WriteContext, unit_of_work
from support_service.telemetry.component import METRICS
from support_service.telemetry.instruments import Instruments
from support_service.telemetry.provider import Metrics, build_resource
from tests.conftest import both_databases
from tests.support.scrape import Scrape

AT = datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=UTC)
ENTRIES = 12
ERASED_CASE = "case-1"
TRIGGERS = ("audit_log_keeps", "audit_log_stays")
# What someone who can write to the database might put into each column.
FORGERIES = {
    "at": st.integers(1, 10**9).map(lambda seconds: AT + timedelta(days=1, seconds=seconds)),
    "actor": st.text("abc", max_size=5),
    "role": st.sampled_from(["agent", "customer", "service"]),
    "action": st.sampled_from(["case.opened", "case.erased", "x"]),
    "case_id": st.none() | st.text("xyz", max_size=5),
    "request_id": st.none() | st.text("xyz", max_size=5),
    "changes": st.none() | st.sampled_from(["{}", '{"erasedPositions":[null,[1,2,3,4,5,6,7,8,9]]}']),
    "position": st.integers(ENTRIES + 10, ENTRIES + 20),
    "salt": st.none() | st.binary(max_size=16),
    "digest": st.none() | st.binary(max_size=32),
    "hash": st.none() | st.binary(max_size=32),
}


async def fill(database):
    """Entries of several cases, all sealed, those of one case erased."""
    for number in range(ENTRIES):
        async with unit_of_work(database, SYSTEM_CONTEXT) as work:
            changes = {"subject": (f"before {number}", f"after {number}")}
            await log.record(work, f"case-{number % 3}", "case.changed", AT + timedelta(seconds=number), changes)
    async with unit_of_work(database, SYSTEM_CONTEXT) as work:
        assert await log.erase_cases(work, [ERASED_CASE], AT) == ENTRIES // 3


@pytest.fixture
async def filled(database):
    """A database with a sealed log."""
    await fill(database)
    return database


@pytest.fixture(scope="module")
def template(sqlite_template, tmp_path_factory):
    """A SQLite file with a sealed log and, as someone with all rights would leave it, without triggers."""
    path = tmp_path_factory.mktemp("chain") / "support.db"
    shutil.copy(sqlite_template, path)

    async def make():
        async with opened(path) as database:
            await fill(database)
            async with database.transaction() as tx:
                for name in TRIGGERS:
                    await tx.execute(sa.text(f"DROP TRIGGER {name}"))

    asyncio.run(make())
    return path


class opened:  # noqa: N801 - reads as the verb that it is
    """A SQLite file as a database, for the length of a block."""

    def __init__(self, path):
        self._database = databases.connect(f"sqlite:///{path}")

    async def __aenter__(self):
        await self._database.open()
        return self._database

    async def __aexit__(self, *_):
        await self._database.close()


async def rows(database):
    """Every entry, in the order of the chain."""
    return await store.read_sealed(database, 0, 1000)


@both_databases
async def test_a_log_that_nobody_touched_holds(filled):
    """What was recorded and sealed holds, erased changes too, and its places have no gap."""
    verdict = await verify_chain(filled)
    assert verdict.flaw is None
    assert [each.position for each in await rows(filled)] == list(range(1, ENTRIES + 2))
    assert verdict.head == (await store.read_head_and_oldest_unsealed(filled))[0]
    assert (await verify_chain(filled, verdict.head.hash)).flaw is None
    assert (await verify_chain(filled, GENESIS)).flaw is None


@settings(max_examples=150)
@given(st.data())
def test_whatever_is_altered_is_found(template, tmp_path_factory, data):
    """One column of one entry is another, or an entry is gone: the chain is broken there, or where it is told."""
    path = tmp_path_factory.mktemp("altered") / "support.db"
    shutil.copy(template, path)

    async def alter():
        async with opened(path) as database:
            entry = data.draw(st.sampled_from(await rows(database)), "entry")
            column = data.draw(st.sampled_from([*FORGERIES, "all of it"]), "column")
            async with database.transaction() as tx:
                mine = audit_log.c.seq == entry.seq
                if column == "all of it":
                    await tx.execute(audit_log.delete().where(mine))
                else:
                    value = data.draw(FORGERIES[column].filter(lambda value: value != getattr(entry, column)), "value")
                    await tx.execute(audit_log.update().where(mine).values({column: value}))
            verdict = await verify_chain(database)
            assert verdict.flaw is not None
            assert verdict.head.position < ENTRIES + 1 or column == "all of it" or "position" in verdict.flaw

    asyncio.run(alter())


@settings(max_examples=30)
@given(st.integers(0, ENTRIES - 1), st.booleans())
def test_a_chain_made_anew_lacks_the_head_that_was_noted(template, tmp_path_factory, kept, rewritten):
    """Who cuts the end off or writes it anew, and mends the head's row, is found by a head noted elsewhere alone."""
    path = tmp_path_factory.mktemp("anew") / "support.db"
    shutil.copy(template, path)

    async def forge():
        async with opened(path) as database:
            before = await rows(database)
            head = ChainHead(kept, before[kept - 1].hash if kept else GENESIS)
            async with database.transaction() as tx:
                await tx.execute(audit_log.delete().where(audit_log.c.position > kept))
                for entry in before[kept:] if rewritten else ():
                    placed = replace(entry, actor="nobody")
                    forged = replace(placed, hash=chain.entry_hash(head.hash, placed, placed.position, placed.digest))
                    head = ChainHead(head.position + 1, forged.hash)
                    await tx.execute(audit_log.insert(), asdict(forged))
                await tx.execute(audit_head.update().values(position=head.position, hash=head.hash))
            if rewritten:
                assert (await verify_chain(database)).flaw is None
            assert (await verify_chain(database, before[-1].hash)).flaw is not None

    asyncio.run(forge())


async def test_a_mended_row_without_its_head_is_found(template, tmp_path):
    """An end that was cut off, with the head's row left as it was, is found without a noted head."""
    path = tmp_path / "cut.db"
    shutil.copy(template, path)
    async with opened(path) as database:
        async with database.transaction() as tx:
            await tx.execute(audit_log.delete().where(audit_log.c.position == ENTRIES + 1))
        assert (
            "missing" in (await verify_chain(database)).flaw or "no entry says" in (await verify_chain(database)).flaw
        )


@both_databases
@pytest.mark.parametrize("position", [0, -1])
async def test_an_entry_before_the_first_is_found(filled, position):
    """Triggers let anyone add an entry; one whose place is before the chain would be listed, and never sealed."""
    async with filled.transaction() as tx:
        forged = replace((await store.read_sealed(tx, 0, 1))[0], seq=ENTRIES + 99, actor="nobody", position=position)
        await tx.execute(audit_log.insert(), asdict(forged))
    assert f"position {position}," in str((await verify_chain(filled)).flaw)


@both_databases
@pytest.mark.parametrize("column", [*FORGERIES, "seq"])
async def test_the_database_refuses_to_alter(filled, column):
    """No column of a sealed entry can be updated, and no entry deleted, without taking the triggers away first."""
    entry = (await rows(filled))[2]
    assert entry.changes is not None
    value = {"at": AT + timedelta(days=9), "position": 99, "seq": 99}.get(column)
    value = value or (b"x" if column in ("salt", "digest", "hash") else "x")
    for statement in (
        audit_log.update().where(audit_log.c.seq == entry.seq).values({column: value}),
        audit_log.update().where(audit_log.c.seq == entry.seq).values(changes=None),
        audit_log.delete().where(audit_log.c.seq == entry.seq),
    ):
        with pytest.raises(Exception, match=r"append-only|RestrictViolation"):
            async with filled.transaction() as tx:
                await tx.execute(statement)
    assert (await rows(filled))[2] == entry
    assert (await verify_chain(filled)).flaw is None


@both_databases
async def test_erasing_leaves_who_and_when(filled):
    """Erased entries keep who did what to which case and when; what changed, and its salt, are gone; it is told."""
    erased = [each for each in await rows(filled) if each.case_id == ERASED_CASE]
    assert [each.action for each in erased] == ["case.changed"] * (ENTRIES // 3) + ["case.erased"]
    assert all((each.changes, each.salt) == (None, None) for each in erased[:-1])
    assert erased[-1].erased() == [each.position for each in erased[:-1]]
    async with unit_of_work(filled, SYSTEM_CONTEXT) as work:
        assert await log.erase_cases(work, [ERASED_CASE, "nobody"], AT) == 0
    assert (await verify_chain(filled)).flaw is None


@both_databases
async def test_many_sealers(database, database_url, instruments):
    """Replicas that seal at once while others write make one chain without a gap, and lose nothing."""
    others = [databases.connect(database_url) for _ in range(3)]
    for other in others:
        await other.open()
    done = asyncio.Event()

    async def write(number):
        for turn in range(15):
            async with unit_of_work(others[number], SYSTEM_CONTEXT) as work:
                await log.record(work, f"case-{number}", "case.changed", AT, {"subject": (turn, turn + 1)})
            await asyncio.sleep(0)

    async def seal(base):
        while not done.is_set():
            await Sealer(base, instruments, SealerTimings(batch_size=7)).run()
            await asyncio.sleep(0.001)

    sealing = [asyncio.create_task(seal(base)) for base in others]
    await asyncio.gather(*(write(number) for number in range(3)))
    done.set()
    await asyncio.gather(*sealing)
    await Sealer(database, instruments).run()
    entries = await rows(database)
    assert [each.position for each in entries] == list(range(1, 46))
    assert (await verify_chain(database)).flaw is None
    for number in range(3):
        mine = [each.changes for each in entries if each.case_id == f"case-{number}"]
        assert mine == [f'{{"subject":[{turn},{turn + 1}]}}' for turn in range(15)]
    for other in others:
        await other.close()


async def test_who_acts_is_recorded(database):
    """An entry names its caller and their role, a customer in what can be erased; beside requests it is the service."""
    for caller in (Principal("lan", "agent", "agent-7"), Principal("mai@example.org", "customer", "mai")):
        async with unit_of_work(database, WriteContext(caller)) as work:
            await log.record(work, "case", "case.changed", AT, {"subject": ("a", "b")})
    async with unit_of_work(database, SYSTEM_CONTEXT) as work:
        await log.record(work, "case", "case.changed", AT, {})
        await sealer.seal_all(work.tx)
    entries = await rows(database)
    assert [(each.actor, each.role) for each in entries] == [
        ("lan", "agent"),
        ("customer", "customer"),
        ("support-service", "supervisor"),
    ]
    assert entries[1].changes == '{"subject":["a","b"],"by":[null,"mai@example.org"]}'


async def test_what_is_undone_is_not_recorded(database):
    """An entry is kept with its change or not at all."""

    async def break_off():
        async with unit_of_work(database, SYSTEM_CONTEXT) as work:
            await log.record(work, "case", "case.changed", AT, {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await break_off()
    assert await store.read_case_entries(database, "case", None, 10) == ([], False)


@both_databases
async def test_large_changes_are_read_in_parts(database):
    """Few large entries are sealed and verified at once, and in the end all of them."""
    async with unit_of_work(database, SYSTEM_CONTEXT) as work:
        for number in range(7):
            await log.record(work, f"case-{number}", "case.changed", AT, {"description": (None, "đ" * 200)})
    async with database.transaction() as tx:
        assert len(await store.read_unsealed(tx, 100, 1000)) == 3
        await sealer.seal_all(tx, SealerTimings(batch_bytes=1000))
    assert [len(await store.read_sealed(database, after, 100, 1000)) for after in (0, 3, 6)] == [3, 3, 1]
    assert (await verify_chain(database, limits=VerifyLimits(page_bytes=1000))).head.position == 7


@pytest.mark.parametrize("moved", [-1, 0, 5])
async def test_a_head_that_was_altered_is_found(filled, moved):
    """The head's row is not part of the chain; one that says another end than the last entry is found."""
    head, _ = await store.read_head_and_oldest_unsealed(filled)
    async with filled.transaction() as tx:
        await tx.execute(audit_head.update().values(position=head.position + moved, hash=b"x" * 32))
    verdict = await verify_chain(filled)
    assert verdict.head == head
    assert f"the head says {ChainHead(head.position + moved, b'x' * 32)}" in verdict.flaw
    assert ("missing" in verdict.flaw) == (moved > 0)


async def test_a_log_without_its_head_is_an_error(filled):
    """Without the head's row nothing can be sealed, and that is said."""
    async with filled.transaction() as tx:
        await tx.execute(audit_head.delete())
        for read in (store.read_head_and_oldest_unsealed, store.lock_head):
            with pytest.raises(LookupError, match="has lost the row of its head"):
                await read(tx)


async def test_a_sealer_that_has_not_looked_says_nothing(filled):
    """Before the first look the length and the lag are unknown, which is not 0."""
    metrics = Metrics(("prometheus",), build_resource())
    scrape, names = (
        Scrape({METRICS: metrics}),
        ("support_audit_sealed", "support_audit_unsealed_age_seconds"),
    )
    sealing = Sealer(filled, Instruments(metrics.meter))
    assert scrape.samples(*names) == []
    await sealing.look()
    assert [value for _, _, value in scrape.samples(*names)] == [ENTRIES + 1, 0.0]
    metrics.close()
