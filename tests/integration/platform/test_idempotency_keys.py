"""Claims: of all requests that hold a key, exactly one commits, even after a takeover."""

import asyncio
import itertools
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from support_service.core.domain.principals import SYSTEM, Principal
from support_service.core.errors import Conflict, Unavailable
from support_service.platform.audit import entry_rows, log
from support_service.platform.database.failures import database_error
from support_service.platform.database.tables import idempotency_keys
from support_service.platform.idempotency_keys import (
    APPLIED,
    RETENTION,
    IdempotencyClaim,
    IdempotencyService,
    StoredResponse,
    erase_case_responses,
    erase_responses_naming,
    hash_key,
)
from support_service.platform.unit_of_work import WriteOrigin, unit_of_work
from tests.conftest import both_databases
from tests.support.cases import code_of

RESPONSE = StoredResponse(201, {"ETag": '"1"'}, b"{}", "case")
AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def claims(database):
    return IdempotencyService(database)


@pytest.fixture
def update_keys(database):
    """Update the row of every key, as elapsed time or a crash would."""

    async def update_keys(**values):
        async with database.transaction() as tx:
            await tx.execute(idempotency_keys.update().values(values))

    return update_keys


@pytest.fixture
def changes(database):
    """Make a change as the request of a claim does, and count the changes."""

    class Changes:
        async def make(self, claim):
            async with unit_of_work(database, WriteOrigin(SYSTEM, claim=claim)) as work:
                await log.record(work, "case", "case.changed", AT, {})

        async def count(self):
            return len((await entry_rows.read_case_entries(database, "case", None, 100))[0])

    return Changes()


@both_databases
async def test_stored_response_is_returned_to_a_retry(claims, changes):
    """Another request with the same key is refused, and another key has no response."""
    claim = await claims.claim_or_read_response("k", "r")
    await changes.make(claim)
    await claims.store_response(claim, RESPONSE, "caller")
    assert await claims.claim_or_read_response("k", "r") == RESPONSE
    assert await code_of(claims.claim_or_read_response("k", "another")) == "idempotency_key_reused"
    assert await claims.claim_or_read_response("another", "r") != RESPONSE


@both_databases
async def test_one_of_many_concurrent_requests_gets_the_claim(claims):
    """The others get `idempotency_key_in_use`."""
    taken = await asyncio.gather(*(claims.claim_or_read_response("k", "r") for _ in range(16)), return_exceptions=True)
    refusals = [each for each in taken if isinstance(each, Conflict)]
    assert len(refusals) == 15
    assert {each.code for each in refusals} == {"idempotency_key_in_use"}


@both_databases
async def test_claim_without_effect_is_released(claims, changes, database):
    """A refused request frees its key for another request. A claim that took effect is kept."""
    claim = await claims.claim_or_read_response("k", "r")
    await claims.release(claim)
    claim = await claims.claim_or_read_response("k", "another")
    await changes.make(claim)
    await claims.release(claim)
    with pytest.raises(Conflict):
        await claims.claim_or_read_response("k", "another")


@pytest.fixture
def failing_database(database, monkeypatch):
    """A context in which each statement fails; the first `executed` ones are executed, and their answers lost."""
    execute = database.execute

    @contextmanager
    def failing_database(*, executed=0):
        numbers = itertools.count()

        async def fail(*arguments):
            if next(numbers) < executed:
                await execute(*arguments)
            raise database_error("database_unavailable")

        with monkeypatch.context() as patch:
            patch.setattr(database, "execute", fail)
            yield

    return failing_database


@both_databases
@pytest.mark.parametrize("executed", [0, 1])
async def test_claim_whose_answer_was_lost_is_released(claims, failing_database, executed):
    """Its request got an error, and a repeat succeeds once the database answers."""
    with failing_database(executed=executed), pytest.raises(Unavailable):
        await claims.claim_or_read_response("k", "r")
    await claims.settle_again()
    assert isinstance(await claims.claim_or_read_response("k", "r"), IdempotencyClaim)


@both_databases
async def test_takeover_whose_answer_was_lost_is_released(claims, update_keys, database, monkeypatch):
    """The claim of a dead replica was taken over, and the connection lost at the commit."""
    await claims.claim_or_read_response("k", "r")
    await update_keys(until=AT)
    transaction = database.transaction

    @asynccontextmanager
    async def lose_answer():
        async with transaction() as tx:
            yield tx
        raise database_error("database_unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(database, "transaction", lose_answer)
        with pytest.raises(Unavailable):
            await claims.claim_or_read_response("k", "r")
    await claims.settle_again()
    assert isinstance(await claims.claim_or_read_response("k", "r"), IdempotencyClaim)


@both_databases
async def test_claim_is_released_although_a_release_failed(claims, failing_database):
    claim = await claims.claim_or_read_response("k", "r")
    with failing_database():
        with pytest.raises(Unavailable):
            await claims.release(claim)
        await claims.settle_again()
    assert await code_of(claims.claim_or_read_response("k", "r")) == "idempotency_key_in_use"
    await claims.settle_again()
    assert isinstance(await claims.claim_or_read_response("k", "r"), IdempotencyClaim)


@both_databases
async def test_repeat_learns_of_an_effect_without_a_response_once_the_request_has_ended(
    claims, changes, failing_database
):
    """The change was committed, but its request got an error."""
    claim = await claims.claim_or_read_response("k", "r")
    await changes.make(claim)
    with failing_database(), pytest.raises(Unavailable):
        await claims.release(claim)
    await claims.settle_again()
    assert await code_of(claims.claim_or_read_response("k", "r")) == "idempotency_answer_lost"


@both_databases
async def test_response_is_stored_although_the_first_attempt_failed(claims, changes, failing_database):
    claim = await claims.claim_or_read_response("k", "r")
    await changes.make(claim)
    with failing_database():
        with pytest.raises(Unavailable):
            await claims.store_response(claim, RESPONSE, "caller")
        await claims.settle_again()
    await claims.settle_again()
    assert await claims.claim_or_read_response("k", "r") == RESPONSE


@both_databases
async def test_claim_is_taken_over_after_its_time_and_the_request_that_lost_it_cannot_commit(
    claims, changes, update_keys
):
    """It damages neither the new claim nor its response, and leaves no entry in the audit log."""
    slow = await claims.claim_or_read_response("k", "r")
    assert await code_of(claims.claim_or_read_response("k", "r")) == "idempotency_key_in_use"
    await update_keys(until=AT)
    fast = await claims.claim_or_read_response("k", "r")
    assert await code_of(changes.make(slow)) == "idempotency_key_in_use"
    await claims.release(slow)
    await claims.renew(slow)
    await changes.make(fast)
    await claims.store_response(fast, RESPONSE, "caller")
    await claims.store_response(slow, StoredResponse(200, {}, b"wrong"), "caller")
    assert (await claims.claim_or_read_response("k", "r"), await changes.count()) == (RESPONSE, 1)


@both_databases
async def test_renewed_claim_is_not_taken_over(claims, update_keys):
    claim = await claims.claim_or_read_response("k", "r")
    await update_keys(until=AT)
    await claims.renew(claim)
    with pytest.raises(Conflict):
        await claims.claim_or_read_response("k", "r")


@both_databases
async def test_concurrent_commit_and_takeover_make_one_change(claims, changes, update_keys):
    """This holds whichever of them is first."""
    for turn in range(1, 11):
        claim = await claims.claim_or_read_response(f"k{turn}", "r")
        await update_keys(until=AT)
        outcome, other = await asyncio.gather(
            changes.make(claim), claims.claim_or_read_response(f"k{turn}", "r"), return_exceptions=True
        )
        if isinstance(outcome, Conflict):
            await changes.make(other)
        else:
            assert isinstance(other, Conflict)
            assert other.code == "idempotency_answer_lost"
        assert await changes.count() == turn


@both_databases
async def test_very_large_response_is_not_stored(database, changes, constants):
    """A retry learns at once that the response was lost, and changes nothing."""
    constants("platform.idempotency_keys", MAX_BODY_BYTES=1)
    claims = IdempotencyService(database)
    claim = await claims.claim_or_read_response("k", "r")
    await changes.make(claim)
    await claims.store_response(claim, RESPONSE, "caller")
    assert await code_of(claims.claim_or_read_response("k", "r")) == "idempotency_answer_lost"


@both_databases
@pytest.mark.parametrize("age", [timedelta(0), RETENTION, RETENTION + timedelta(minutes=1)])
async def test_keys_expire_after_the_retention(update_keys, database, age, constants):
    """An expired key is free, whether it was deleted yet or not. A younger key stays."""
    constants("platform.idempotency_keys", CLEANUP_BATCH_SIZE=2)
    claims = IdempotencyService(database)
    for number in range(5):
        await claims.store_response(await claims.claim_or_read_response(f"k{number}", "r"), RESPONSE, "caller")
    await update_keys(created_at=datetime.now(UTC) - age)
    old = bool(age)
    assert isinstance(await claims.claim_or_read_response("k0", "another" if old else "r"), StoredResponse) != old
    await claims.delete_expired()
    left = await database.fetch_all(sa.select(idempotency_keys.c.id))
    assert len(left) == (1 if old else 5)


def test_keys_belong_to_their_principal():
    """The same key of two principals is two keys, even if names and keys join to the same text."""
    principals = [Principal("a", "agent"), Principal("ab", "agent"), *(Principal("a", "customer", id_) for id_ in "bc")]
    assert len({hash_key(principal, key) for principal in principals for key in ("k", "bk")}) == 8


@both_databases
async def test_response_is_not_stored_after_its_case_was_erased(claims, changes, database):
    """The case was erased between the effect and the response of the request."""
    claim = await claims.claim_or_read_response("key", "request")
    await changes.make(claim)
    async with database.transaction() as tx:
        await erase_case_responses(tx, ["case"])
    await claims.store_response(claim, StoredResponse(200, {}, b"a secret", "case"), "caller")
    (row,) = await database.fetch_all(sa.select(idempotency_keys.c.state, idempotency_keys.c.body))
    assert tuple(row) == (APPLIED, None)
    assert await code_of(claims.claim_or_read_response("key", "request")) == "idempotency_answer_lost"


@both_databases
async def test_request_without_effect_loses_its_claim_when_its_case_is_erased(claims, changes, database, update_keys):
    """Its response is not stored, and it cannot change anything afterwards."""
    claim = await claims.claim_or_read_response("key", "request", "case")
    async with database.transaction() as tx:
        await erase_case_responses(tx, ["case"])
    await claims.store_response(claim, StoredResponse(200, {}, b"a secret"), "caller")
    with pytest.raises(Conflict):
        await changes.make(claim)
    with pytest.raises(Conflict, match="in progress"):
        await claims.claim_or_read_response("key", "request", "case")
    await update_keys(until=AT)
    await changes.make(await claims.claim_or_read_response("key", "request", "case"))
    assert await changes.count() == 1


@both_databases
async def test_large_responses_of_one_caller_are_bounded(database, constants):
    """Over the limit only the effect of a request is stored: it is not executed again, and others are not concerned."""
    constants("platform.idempotency_keys", LARGE_BODY_BYTES=10, MAX_LARGE_BYTES_PER_CALLER=250)
    claims = IdempotencyService(database)

    for key, size, caller in (
        *(("a", 100, "one"), ("b", 100, "one"), ("c", 100, "one"), ("d", 100, "other")),
        *((f"small-{number}", 10, "one") for number in range(100)),
        ("e", 50, "one"),  # small ones do not count
    ):
        claim = await claims.claim_or_read_response(key, "request")
        async with unit_of_work(database, WriteOrigin(SYSTEM, claim=claim)):
            pass
        await claims.store_response(claim, StoredResponse(200, {}, b"a" * size), caller)
    for key in ("a", "b", "d", "small-99", "e"):
        assert isinstance(await claims.claim_or_read_response(key, "request"), StoredResponse)
    assert await code_of(claims.claim_or_read_response("c", "request")) == "idempotency_answer_lost"


async def test_responses_about_no_case_are_erased_by_a_text(database):
    """In any case of letters. The response about a case is erased with its case alone; no request is executed again."""
    claims = IdempotencyService(database)
    answers = {"named": (b'{"q": "For Zaphod"}', None), "other": (b"{}", None), "of a case": (b"zaphod", "case-1")}
    for key, (body, case_id) in answers.items():
        claim = await claims.claim_or_read_response(key, "request", case_id)
        async with unit_of_work(database, WriteOrigin(SYSTEM, claim=claim)):
            pass
        await claims.store_response(claim, StoredResponse(200, {}, body, case_id), "caller")
    async with database.transaction() as tx:
        await erase_responses_naming(tx, "zaphod", [])
    for key in ("other", "of a case"):
        assert isinstance(await claims.claim_or_read_response(key, "request"), StoredResponse)
    assert await code_of(claims.claim_or_read_response("named", "request")) == "idempotency_answer_lost"
