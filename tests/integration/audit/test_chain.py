"""The audit chain: verification finds every alteration, and the database refuses to alter sealed entries."""

import asyncio
import shutil
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from support_service.core.domain.principals import Principal
from support_service.platform.audit import chain, entry_rows, log, segments
from support_service.platform.audit.chain import GENESIS, ChainHead
from support_service.platform.audit.log import Sealer
from support_service.platform.audit.verify import VerifyLimits, verify_chain
from support_service.platform.audit.watch import ChainWatch
from support_service.platform.database.shared import create_database
from support_service.platform.database.tables import audit_head, audit_log
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.provider import Metrics, build_resource
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, WriteOrigin, unit_of_work
from tests.conftest import both_databases
from tests.support.cases import own_metrics  # noqa: F401 - a fixture
from tests.support.each import each_row
from tests.support.examples import examples
from tests.support.scrape import Scrape

AT = datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=UTC)
ENTRIES = 12
ERASED_CASE = "case-1"
TRIGGERS = ("audit_log_keeps", "audit_log_stays")
# Values that an attacker with write access to the database could put into each column.
FORGED_VALUES = {
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
    """Record and seal entries of several cases, and erase one of the cases."""
    for number in range(ENTRIES):
        async with unit_of_work(database, SYSTEM_ORIGIN) as work:
            changes = {"subject": (f"before {number}", f"after {number}")}
            await log.record(work, f"case-{number % 3}", "case.changed", AT + timedelta(seconds=number), changes)
    async with unit_of_work(database, SYSTEM_ORIGIN) as work:
        assert await log.erase_cases(work, [ERASED_CASE], AT) == ENTRIES // 3


@pytest.fixture
async def sealed_log(database):
    await fill(database)
    return database


@pytest.fixture(scope="module")
def unprotected_log(sqlite_template, tmp_path_factory):
    """A SQLite file with a sealed log and no triggers, as an attacker with all rights would leave it."""
    path = tmp_path_factory.mktemp("chain") / "support.db"
    shutil.copy(sqlite_template, path)

    async def make():
        async with opened_database(path) as database:
            await fill(database)
            async with database.transaction() as tx:
                for name in TRIGGERS:
                    await tx.execute(sa.text(f"DROP TRIGGER {name}"))

    asyncio.run(make())
    return path


@asynccontextmanager
async def opened_database(path):
    database = create_database(f"sqlite:///{path}")
    await database.open()
    yield database
    await database.close()


async def rows(database):
    return await entry_rows.read_sealed(database, 0, 1000)


@both_databases
async def test_unaltered_log_is_valid(sealed_log):
    """Erased changes keep the chain valid, and positions have no gap.

    An erasure keeps principal, action and time. The changes and their salt are deleted, and an entry records it.
    """
    verdict = await verify_chain(sealed_log)
    assert verdict.flaw is None
    assert [each.position for each in await rows(sealed_log)] == list(range(1, ENTRIES + 2))
    assert verdict.head == (await entry_rows.read_head_and_oldest_unsealed(sealed_log))[0]
    assert (await verify_chain(sealed_log, verdict.head.hash)).flaw is None
    assert (await verify_chain(sealed_log, GENESIS)).flaw is None
    erased = [each for each in await rows(sealed_log) if each.case_id == ERASED_CASE]
    assert [each.action for each in erased] == ["case.changed"] * (ENTRIES // 3) + ["case.erased"]
    assert all((each.changes, each.salt) == (None, None) for each in erased[:-1])
    assert erased[-1].erased_positions() == [each.position for each in erased[:-1]]
    async with unit_of_work(sealed_log, SYSTEM_ORIGIN) as work:
        assert await log.erase_cases(work, [ERASED_CASE, "nobody"], AT) == 0
    assert (await verify_chain(sealed_log)).flaw is None


@examples(2)
@given(st.data())
def test_every_alteration_of_an_entry_is_found(unprotected_log, tmp_path_factory, data):
    """An altered column or a deleted entry breaks the chain."""
    path = tmp_path_factory.mktemp("altered") / "support.db"
    shutil.copy(unprotected_log, path)

    async def alter():
        async with opened_database(path) as database:
            entry = data.draw(st.sampled_from(await rows(database)), "entry")
            column = data.draw(st.sampled_from([*FORGED_VALUES, "all of it"]), "column")
            async with database.transaction() as tx:
                mine = audit_log.c.seq == entry.seq
                if column == "all of it":
                    await tx.execute(audit_log.delete().where(mine))
                else:
                    value = data.draw(
                        FORGED_VALUES[column].filter(lambda value: value != getattr(entry, column)), "value"
                    )
                    await tx.execute(audit_log.update().where(mine).values({column: value}))
            verdict = await verify_chain(database)
            assert verdict.flaw is not None
            assert verdict.head.position < ENTRIES + 1 or column == "all of it" or "position" in verdict.flaw

    asyncio.run(alter())


@examples(0.5)
@given(st.integers(0, ENTRIES - 1), st.booleans())
def test_rewritten_chain_is_found_by_a_head_noted_before(unprotected_log, tmp_path_factory, kept, rewritten):
    """An attacker who truncates or rewrites the chain and repairs its head is found only by such a head."""
    path = tmp_path_factory.mktemp("anew") / "support.db"
    shutil.copy(unprotected_log, path)

    async def forge():
        async with opened_database(path) as database:
            before = await rows(database)
            head = ChainHead(kept, before[kept - 1].hash if kept else GENESIS)
            async with database.transaction() as tx:
                await tx.execute(audit_log.delete().where(audit_log.c.position > kept))
                for entry in before[kept:] if rewritten else ():
                    placed = entry._replace(actor="nobody")
                    forged = placed._replace(hash=chain.entry_hash(head.hash, placed, placed.position, placed.digest))
                    head = ChainHead(head.position + 1, forged.hash)
                    await tx.execute(audit_log.insert(), forged._asdict())
                await tx.execute(audit_head.update().values(position=head.position, hash=head.hash))
            if rewritten:
                assert (await verify_chain(database)).flaw is None
            assert (await verify_chain(database, before[-1].hash)).flaw is not None

    asyncio.run(forge())


@both_databases
@pytest.mark.parametrize("position", [0, -1])
async def test_entry_inserted_before_the_first_is_found(sealed_log, position):
    """The triggers allow inserts. Such an entry would be listed but never sealed."""
    async with sealed_log.transaction() as tx:
        (first,) = await entry_rows.read_sealed(tx, 0, 1)
        forged = first._replace(seq=ENTRIES + 99, actor="nobody", position=position)
        await tx.execute(audit_log.insert(), forged._asdict())
    assert f"position {position}," in str((await verify_chain(sealed_log)).flaw)


@both_databases
@each_row("column", [*FORGED_VALUES, "seq"])
async def test_database_refuses_to_update_or_delete_sealed_entries(sealed_log, column):
    """This holds for every column as long as the triggers exist."""
    entry = (await rows(sealed_log))[2]
    assert entry.changes is not None
    value = {"at": AT + timedelta(days=9), "position": 99, "seq": 99}.get(column)
    value = value or (b"x" if column in ("salt", "digest", "hash") else "x")
    for statement in (
        audit_log.update().where(audit_log.c.seq == entry.seq).values({column: value}),
        audit_log.update().where(audit_log.c.seq == entry.seq).values(changes=None),
        audit_log.delete().where(audit_log.c.seq == entry.seq),
    ):
        with pytest.raises(Exception, match=r"append-only|RestrictViolation"):
            async with sealed_log.transaction() as tx:
                await tx.execute(statement)
    assert (await rows(sealed_log))[2] == entry
    assert (await verify_chain(sealed_log)).flaw is None


@both_databases
async def test_concurrent_sealers_make_one_chain(database, two_databases, instruments, constants):
    """Replicas that seal while others write leave no gap and lose no entry."""
    constants("platform.audit.log", SEAL_BATCH=7)
    replicas = [database, *two_databases]
    done = asyncio.Event()

    async def write(number):
        for turn in range(15):
            async with unit_of_work(replicas[number], SYSTEM_ORIGIN) as work:
                await log.record(work, f"case-{number}", "case.changed", AT, {"subject": (turn, turn + 1)})
            await asyncio.sleep(0)

    async def seal(replica):
        while not done.is_set():
            await Sealer(replica, instruments).run()
            await asyncio.sleep(0.001)  # the interval of a sealer

    sealing = [asyncio.create_task(seal(replica)) for replica in replicas]
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


async def test_entry_records_the_principal_and_role(database):
    """A customer's name is recorded where it can be erased. Background jobs act as the service."""
    for principal in (Principal("lan", "agent", "agent-7"), Principal("mai@example.org", "customer", "mai")):
        async with unit_of_work(database, WriteOrigin(principal)) as work:
            await log.record(work, "case", "case.changed", AT, {"subject": ("a", "b")})
    async with unit_of_work(database, SYSTEM_ORIGIN) as work:
        await log.record(work, "case", "case.changed", AT, {})
        await log.seal_all(work.tx)
    entries = await rows(database)
    assert [(each.actor, each.role) for each in entries] == [
        ("lan", "agent"),
        ("customer", "customer"),
        ("support-service", "supervisor"),
    ]
    assert entries[1].changes == '{"subject":["a","b"],"by":[null,"mai@example.org"]}'


@both_databases
async def test_large_entries_are_sealed_and_verified_in_batches(database, constants):
    """A batch has few large entries, and all batches together have every entry."""
    async with unit_of_work(database, SYSTEM_ORIGIN) as work:
        for number in range(7):
            await log.record(work, f"case-{number}", "case.changed", AT, {"description": (None, "đ" * 200)})
    constants("platform.audit.log", SEAL_BYTES=1000)
    async with database.transaction() as tx:
        assert len(await entry_rows.read_unsealed(tx, 100, 1000)) == 3
        await log.seal_all(tx)
    assert [len(await entry_rows.read_sealed(database, after, 100, 1000)) for after in (0, 3, 6)] == [3, 3, 1]
    assert (await verify_chain(database, limits=VerifyLimits(page_bytes=1000))).head.position == 7


async def test_altered_head_is_found(sealed_log):
    """The row of the head is outside the chain, so it is compared with the last entry. Without it nothing is sealed."""
    head, _ = await entry_rows.read_head_and_oldest_unsealed(sealed_log)
    for moved in (-1, 0, 5):
        async with sealed_log.transaction() as tx:
            await tx.execute(audit_head.update().values(position=head.position + moved, hash=b"x" * 32))
        verdict = await verify_chain(sealed_log)
        assert verdict.head == head
        assert f"the head says {ChainHead(head.position + moved, b'x' * 32)}" in verdict.flaw
        assert ("missing" in verdict.flaw) == (moved > 0)
    async with sealed_log.transaction() as tx:
        await tx.execute(audit_head.delete())
        for read in (entry_rows.read_head_and_oldest_unsealed, entry_rows.lock_head):
            with pytest.raises(LookupError, match="has lost the row of its head"):
                await read(tx)


async def test_sealed_entries_are_counted_by_action(database, own_metrics):  # noqa: F811 - a fixture
    """Also entries of other processes, such as commands; actions that no alert counts are one series."""
    name, scrape = "support_audit_entries_total", Scrape(own_metrics)
    sealing = Sealer(database, Instruments(own_metrics.meter))
    assert scrape.value(name, action="case.closed") == 0
    for action, number in (("case.closed", 3), ("attachment.removed", 1), ("view.created", 2)):
        async with unit_of_work(database, SYSTEM_ORIGIN) as work:
            await log.record_all(work, action, [(None, AT, {})] * number)
    await sealing.run()
    await sealing.run()
    found = {labels["action"]: value for _, labels, value in scrape.samples(name) if value}
    assert found == {"case.closed": 3, "attachment.removed": 1, "other": 2}


@pytest.fixture(autouse=True)
def short_rounds(constants):
    """Let a round of the regular verification read few entries."""
    constants("platform.audit.watch", NEW_ENTRIES=3, OLD_ENTRIES=3)


class Watch:
    """The regular verification by one replica, and its results so far."""

    def __init__(self, database):
        self.metrics = Metrics(("prometheus",), build_resource())
        self.leads = True
        self._watch = ChainWatch(database, Instruments(self.metrics.meter), lambda: self.leads)

    async def run(self, rounds=1):
        """Verify some parts; return the number of rounds by result."""
        for _ in range(rounds):
            await self._watch.run()
        name = "support_audit_verifications_total"
        return {labels["result"]: value for _, labels, value in Scrape(self.metrics).samples(name) if value}


async def add_entries(database, number):
    async with unit_of_work(database, SYSTEM_ORIGIN) as work:
        await log.record_all(work, "case.changed", [("case-9", AT, {"priority": ("low", "high")})] * number)
        await log.seal_all(work.tx)


async def forge(database, at, /, **values):
    """Change an entry past the triggers of the table, as its owner can."""
    on = " ON audit_log" if database.is_shared else ""
    async with database.transaction() as tx:
        for name in TRIGGERS:
            await tx.execute(sa.text(f"DROP TRIGGER IF EXISTS {name}{on}"))
        if values:
            await tx.execute(audit_log.update().where(audit_log.c.position == at).values(**values))


async def test_regular_verification_of_an_unaltered_log_finds_nothing(sealed_log):
    """Through several passes, with new entries between them, and with erased changes whose erasure is recorded."""
    watch = Watch(sealed_log)
    for _ in range(12):
        await add_entries(sealed_log, 2)
        await watch.run()
    assert await watch.run() == {"intact": 13}


async def test_regular_verification_finds_an_altered_entry_in_each_round(sealed_log, caplog):
    """The new one at once, an old one within a pass; until it is as it was. The log names the position."""
    watch = Watch(sealed_log)
    await watch.run()
    await add_entries(sealed_log, 2)
    newest, (old, *_) = ENTRIES + 3, await rows(sealed_log)
    before = (await rows(sealed_log))[newest - 1]
    await forge(sealed_log, newest, actor="nobody")
    assert await watch.run(3) == {"intact": 1, "broken": 3}
    assert f"The audit log was altered: the entry at position {newest} differs from the sealed one" in caplog.text
    await forge(sealed_log, newest, actor=before.actor)
    await forge(sealed_log, 1, action="case.opened")
    assert (await watch.run(8))["broken"] > 4
    assert "the entry at position 1 differs from the sealed one" in caplog.text
    successor = await Watch(sealed_log).run()
    assert successor == {"broken": 1}  # another leader goes on where the first one was
    await forge(sealed_log, 1, action=old.action)
    broken = (await watch.run())["broken"]
    assert (await watch.run(8))["broken"] == broken


@pytest.mark.parametrize(
    "values", [{"changes": None, "salt": None}, {"position": ENTRIES + 100}, {"hash": b"x" * 32}], ids=str
)
async def test_regular_verification_finds_hidden_changes_and_missing_entries(sealed_log, values):
    """Changes that are gone without a recorded erasure, an entry that is gone, and another hash."""
    watch = Watch(sealed_log)
    await forge(sealed_log, 3, **values)
    assert (await watch.run(6)).keys() >= {"broken"}


@both_databases
async def test_entry_that_cannot_be_read_is_an_altered_one(sealed_log, caplog):
    """A time without an instant must not end the verification, which would hide the entry and all after it."""
    await forge(sealed_log, 3, at=sa.text("'infinity'"))
    watch = Watch(sealed_log)
    assert (await watch.run(6))["broken"] > 0
    flaw = "the entry at position 3 differs" if sealed_log.is_shared else "an entry can't be read: Invalid isoformat"
    assert f"The audit log was altered: {flaw}" in caplog.text


async def test_regular_verification_finds_a_truncated_log(sealed_log):
    """If the head was moved back with the entries: as long as the same process verifies."""
    watch = Watch(sealed_log)
    await watch.run()
    kept = (await rows(sealed_log))[-3]
    await forge(sealed_log, 1)
    async with sealed_log.transaction() as tx:
        await tx.execute(audit_log.delete().where(audit_log.c.position > kept.position))
        await tx.execute(audit_head.update().values(position=kept.position, hash=kept.hash))
    assert await watch.run() == {"intact": 1, "broken": 1}


async def test_regular_verification_is_that_of_one_replica_and_of_a_bounded_part(sealed_log):
    """A replica that does not lead reads nothing; one that can't read says so."""
    await add_entries(sealed_log, 30)
    follower, leader = Watch(sealed_log), Watch(sealed_log)
    follower.leads = False
    assert await follower.run() == {}
    await leader.run()
    assert Scrape(leader.metrics).value("support_audit_verified_total") == 3 + 3
    async with sealed_log.transaction() as tx:
        await tx.execute(audit_head.delete())
    with pytest.raises(LookupError):
        await leader.run()
    assert await leader.run(0) == {"intact": 1, "failed": 1}


async def test_regular_verification_goes_on_after_detached_entries(sealed_log, tmp_path):
    """Entries that an operator moved to a file are not missed."""
    watch = Watch(sealed_log)
    await watch.run(2)
    with (tmp_path / "segment").open("w+b") as file:
        await segments.write_segment(sealed_log, file, AT + timedelta(seconds=8))
        file.seek(0)
        segment = segments.read_segment(file)
    await segments.detach(sealed_log, SYSTEM_ORIGIN, segment)
    assert await watch.run(9) == {"intact": 11}


async def test_sealer_gauges_have_no_series_before_the_first_look(sealed_log, own_metrics):  # noqa: F811 - a fixture
    """An unknown length or lag must not be reported as 0."""
    scrape, names = (Scrape(own_metrics), ("support_audit_sealed", "support_audit_unsealed_age_seconds"))
    sealing = Sealer(sealed_log, Instruments(own_metrics.meter))
    assert scrape.samples(*names) == []
    await sealing.refresh_gauges()
    assert [value for _, _, value in scrape.samples(*names)] == [ENTRIES + 1, 0.0]
