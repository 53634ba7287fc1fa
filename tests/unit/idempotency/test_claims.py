"""Claims: of all who hold a key, whoever is taken for dead, one commits."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from support_service.audit import log
from support_service.audit import store as audit_store
from support_service.core.errors import Conflict, ValidationFailed
from support_service.core.principals import SYSTEM, Principal
from support_service.database.tables import idempotency_keys
from support_service.idempotency import store
from support_service.idempotency.claims import IdempotencyService, IdempotencyTimings, StoredResponse, stored_key
from support_service.idempotency.unit_of_work import WriteContext, unit_of_work
from tests.conftest import both_databases

ANSWER = StoredResponse(201, {"ETag": '"1"'}, b"{}", "case")
RETENTION = IdempotencyTimings().retention
AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def claims(database):
    """Claims on a database."""
    return IdempotencyService(database)


@pytest.fixture
def alter(database):
    """Change the row of every key, as time or a death would."""

    async def alter(**values):
        async with database.transaction() as tx:
            await tx.execute(idempotency_keys.update().values(values))

    return alter


@pytest.fixture
def changes(database):
    """Make a change as the request of a claim does, and count the changes that were made."""

    class Changes:
        async def make(self, claim):
            async with unit_of_work(database, WriteContext(SYSTEM, claim=claim)) as work:
                await log.record(work, "case", "case.changed", AT, {})

        async def count(self):
            return len((await audit_store.read_case_entries(database, "case", None, 100))[0])

    return Changes()


@both_databases
async def test_an_answer_is_given_again(claims, changes):
    """What was answered is given to whoever asks the same again, and nobody else."""
    claim = await claims.take("k", "r")
    await changes.make(claim)
    await claims.keep(claim, ANSWER)
    assert await claims.take("k", "r") == ANSWER
    with pytest.raises(ValidationFailed) as refusal:
        await claims.take("k", "another")
    assert refusal.value.code == "idempotency_key_reused"
    assert await claims.take("another", "r") != ANSWER


@both_databases
async def test_of_many_one_claims(claims):
    """However many ask at once, one gets the claim; the others are told to wait."""
    taken = await asyncio.gather(*(claims.take("k", "r") for _ in range(16)), return_exceptions=True)
    refusals = [each for each in taken if isinstance(each, Conflict)]
    assert len(refusals) == 15
    assert {each.code for each in refusals} == {"idempotency_key_in_use"}


@both_databases
async def test_a_claim_without_effect_is_freed(claims, changes, database):
    """A refused request frees its key, for another request too; one that has taken effect does not."""
    claim = await claims.take("k", "r")
    await claims.release(claim)
    claim = await claims.take("k", "another")
    await changes.make(claim)
    await claims.release(claim)
    with pytest.raises(Conflict):
        await claims.take("k", "another")


@both_databases
async def test_a_dead_one_is_taken_over(claims, changes, alter):
    """Who died before the commit is taken over once the time is over, not before; the change is made once."""
    await claims.take("k", "r")
    with pytest.raises(Conflict):
        await claims.take("k", "r")
    await alter(until=AT)
    claim = await claims.take("k", "r")
    await changes.make(claim)
    await claims.keep(claim, ANSWER)
    assert (await claims.take("k", "r"), await changes.count()) == (ANSWER, 1)


@both_databases
async def test_who_was_taken_for_dead_can_not_commit(claims, changes, alter):
    """A slow one whose claim was taken over changes nothing, and spoils neither the other's claim nor its answer."""
    slow = await claims.take("k", "r")
    await alter(until=AT)
    fast = await claims.take("k", "r")
    with pytest.raises(Conflict) as refusal:
        await changes.make(slow)
    assert refusal.value.code == "idempotency_key_in_use"
    await claims.release(slow)
    await claims.renew(slow)
    await changes.make(fast)
    await claims.keep(fast, ANSWER)
    await claims.keep(slow, StoredResponse(200, {}, b"wrong"))
    assert (await claims.take("k", "r"), await changes.count()) == (ANSWER, 1)


@both_databases
async def test_a_sign_of_life_keeps_a_claim(claims, alter):
    """A claim that is renewed is not taken over."""
    claim = await claims.take("k", "r")
    await alter(until=AT)
    await claims.renew(claim)
    with pytest.raises(Conflict):
        await claims.take("k", "r")


@both_databases
async def test_two_who_commit_at_once(claims, changes, alter):
    """A commit and a takeover at the same moment: the change is made once, whoever is first."""
    for turn in range(1, 11):
        claim = await claims.take(f"k{turn}", "r")
        await alter(until=AT)
        outcome, other = await asyncio.gather(changes.make(claim), claims.take(f"k{turn}", "r"), return_exceptions=True)
        if isinstance(outcome, Conflict):
            await changes.make(other)
        else:
            assert isinstance(other, Conflict)
            assert other.code == "idempotency_answer_lost"
        assert await changes.count() == turn


@both_databases
async def test_a_lost_answer(claims, changes, alter):
    """Who died after the commit leaves an effect that is told of and not repeated."""
    await changes.make(await claims.take("k", "r"))
    with pytest.raises(Conflict) as refusal:
        await claims.take("k", "r")
    assert refusal.value.code == "idempotency_key_in_use"
    await alter(until=AT)
    with pytest.raises(Conflict) as refusal:
        await claims.take("k", "r")
    assert refusal.value.code == "idempotency_answer_lost"


@both_databases
async def test_a_very_large_answer_is_not_kept(database, changes):
    """Of an answer that is too large to keep a repeat is told at once that it is lost, and changes nothing."""
    claims = IdempotencyService(database, IdempotencyTimings(max_body_bytes=1))
    claim = await claims.take("k", "r")
    await changes.make(claim)
    await claims.keep(claim, ANSWER)
    with pytest.raises(Conflict) as refusal:
        await claims.take("k", "r")
    assert refusal.value.code == "idempotency_answer_lost"


@both_databases
@pytest.mark.parametrize("age", [timedelta(0), RETENTION, RETENTION + timedelta(minutes=1)])
async def test_keys_are_forgotten(alter, database, age):
    """After a day a key is free, whether it was swept by then or not; before, it stays."""
    claims = IdempotencyService(database, IdempotencyTimings(cleanup_batch_size=2))
    for number in range(5):
        await claims.keep(await claims.take(f"k{number}", "r"), ANSWER)
    await alter(created_at=datetime.now(UTC) - age)
    old = bool(age)
    assert isinstance(await claims.take("k0", "another" if old else "r"), StoredResponse) != old
    await claims.delete_expired()
    left = await database.fetch_all(sa.select(idempotency_keys.c.id))
    assert len(left) == (1 if old else 5)


def test_keys_belong_to_their_caller():
    """The same key of two callers is two keys, however their names and keys are cut."""
    names = [
        Principal("a", "agent"),
        Principal("ab", "agent"),
        Principal("a", "customer", "b"),
        Principal("a", "customer", "c"),
    ]
    assert len({stored_key(caller, key) for caller in names for key in ("k", "bk")}) == 8


@both_databases
async def test_an_answer_that_comes_after_its_cases_erasure(claims, changes, database):
    """What a request is answered is not kept where its case was erased between its effect and its answer."""
    claim = await claims.take("key", "request")
    await changes.make(claim)
    async with database.transaction() as tx:
        await store.erase_case_responses(tx, "case")
    await claims.keep(claim, StoredResponse(200, {}, b"a secret", "case"))
    (row,) = await database.fetch_all(sa.select(idempotency_keys.c.state, idempotency_keys.c.body))
    assert tuple(row) == (store.APPLIED, None)
    with pytest.raises(Conflict, match="answer was not kept"):
        await claims.take("key", "request")


@both_databases
async def test_an_answer_without_effect_that_comes_after_its_cases_erasure(claims, changes, database, alter):
    """Nor is it where its request has changed nothing; and who comes too late changes nothing any more."""
    claim = await claims.take("key", "request", "case")
    async with database.transaction() as tx:
        await store.erase_case_responses(tx, "case")
    await claims.keep(claim, StoredResponse(200, {}, b"a secret"))
    with pytest.raises(Conflict):
        await changes.make(claim)
    with pytest.raises(Conflict, match="in work"):
        await claims.take("key", "request", "case")
    await alter(until=AT)
    await changes.make(await claims.take("key", "request", "case"))
    assert await changes.count() == 1
