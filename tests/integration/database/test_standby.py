"""Lists, searches and counts from a standby: no caller reads older data than it has written or was told of."""

import asyncio
import os
import random
import sys
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial

import pytest
import sqlalchemy as sa

from support_service.client import Change, SupportClient
from support_service.platform.database import StandbyTimings
from support_service.platform.database.postgres.standby import Position
from support_service.platform.settings import Settings, WrongSetting
from tests.support.calls import eventually, open_case
from tests.support.client.fixtures import QUICK
from tests.support.pgbouncer import PgBouncer
from tests.support.process import running
from tests.support.servers import free_port
from tests.support.service import service_of
from tests.support.sessions import MIGRATED, copied_postgres
from tests.support.timings import PATIENT_DATABASE, patient_timings

POSITION = "Support-Position"
CALLERS = int(os.environ.get("STANDBY_CALLERS", "4"))
ROUNDS = int(os.environ.get("STANDBY_ROUNDS", "6"))  # of faults
QUESTIONS = int(os.environ.get("STANDBY_QUESTIONS", "8"))  # of all callers, during each fault
SEED = int(os.environ.get("STANDBY_SEED", "5"))
# A standby that stands still counts as behind, and not as lagging, unless a test says otherwise.
PATIENT_STANDBY = StandbyTimings(interval=0.1, timeout=10.0, max_lag=3600.0)


def with_standby(**changes):
    """Return the timings of a service with a standby."""
    return patient_timings(database=replace(PATIENT_DATABASE, standby=replace(PATIENT_STANDBY, **changes)))


@pytest.fixture(scope="module")
def primary(postgres_cluster):
    """A server that accepts changes."""
    with copied_postgres(postgres_cluster) as server:
        yield server


@pytest.fixture(scope="module")
def followers(postgres_cluster, primary):
    """A server that follows the primary."""
    with copied_postgres(postgres_cluster, primary) as server:
        yield server


@pytest.fixture
def standby(followers):
    """The same, in order after each test."""
    yield followers
    followers.thaw()
    followers.start()
    followers.run("SELECT pg_wal_replay_resume()")


def pause(server):
    """Let a standby receive changes, and not show them."""
    server.run("SELECT pg_wal_replay_pause()")
    wait = "DO $$ BEGIN WHILE pg_get_wal_replay_pause_state() <> 'paused' LOOP PERFORM pg_sleep(0.01); END LOOP; END $$"
    server.run(wait)


@contextmanager
def paused(server):
    """Pause a standby in a block."""
    pause(server)
    try:
        yield
    finally:
        server.run("SELECT pg_wal_replay_resume()")


@pytest.fixture
def timings():
    """The timings of the service."""
    return with_standby()


@pytest.fixture
def environment(environment, primary, standby):
    """The variables of a service that reads from the standby."""
    urls = {"SUPPORT_DATABASE_URL": primary.url(MIGRATED), "SUPPORT_DATABASE_READ_URL": standby.url(MIGRATED)}
    return environment | urls


async def write(client, **fields):
    """Open a case; return it with the position of its commit."""
    async with client.post("/support/cases", json={"subject": "A", "channel": "email"} | fields) as response:
        assert response.status == 201
        return await response.json(), response.headers[POSITION]


async def ids(client, position, **query):
    """Return the ids of a list that shows at least what was written before a position, and the answer's position."""
    headers = {POSITION: position} if position else {}
    async with client.get("/support/cases", params=query, headers=headers) as response:
        assert response.status == 200
        return [each["id"] for each in (await response.json())["items"]], response.headers.get(POSITION)


async def status_of(client):
    """Return what the service says of its standby."""
    async with client.get("/readyz") as response:
        return (await response.json())["standby"]


def outcomes(metrics):
    """Return the number of reads by who answered them."""
    return {
        name: metrics.value("support_standby_reads_total", outcome=name)
        for name in ("standby", "no_position", "behind", "unavailable")
    }


async def reads_from_standby(client, metrics, position, **query):
    """Wait until the standby answers a list; return the ids."""

    async def found():
        before = outcomes(metrics)["standby"]
        listed, _ = await ids(client, position, **query)
        return outcomes(metrics)["standby"] > before and (listed,)

    return (await eventually(found))[0]


async def test_standby_answers_lists_searches_and_counts(client, metrics, standby):
    """Of a caller who sends the position of its last write, as soon as it has replayed that."""
    case, position = await write(client, subject="Standbyword", customerId="standby-1", assignedAgentId="standby-1")
    assert await reads_from_standby(client, metrics, position, customerId="standby-1") == [case["id"]]
    for path, number in (
        ("/support/cases?q=standbyword", 1),
        ("/support/cases/count?q=standbyword", 1),
        ("/support/customers/standby-1", 1),
        ("/support/agents/standby-1/workload", 1),
        (f"/support/audit?caseId={case['id']}", 1),
    ):
        before = outcomes(metrics)
        async with client.get(path, headers={POSITION: position}) as response:
            assert response.status == 200
            assert POSITION not in response.headers
            assert case["id"] in await response.text() or path.startswith(("/support/cases/count", "/support/agents"))
        assert outcomes(metrics) == before | {"standby": before["standby"] + number}, path


async def test_primary_answers_what_the_standby_has_not_replayed(client, metrics, standby):
    """As long as its replay is paused; a caller who knows less gets an answer of the standby."""
    _, early = await write(client)
    await reads_from_standby(client, metrics, early)
    with paused(standby):
        before = outcomes(metrics)["behind"]
        case, late = await write(client, customerId="paused-1")
        assert await ids(client, late, customerId="paused-1") == ([case["id"]], None)
        assert outcomes(metrics)["behind"] == before + 1
        assert await reads_from_standby(client, metrics, early, customerId="paused-1") == []
    assert await reads_from_standby(client, metrics, late, customerId="paused-1") == [case["id"]]


async def test_caller_without_a_position_reads_from_the_primary(client, metrics, standby):
    """It may have written by another client. The answer has the position for its next list."""
    with paused(standby):
        case, _ = await write(client, customerId="unknown-1")
        for sent in (None, "", "7", "not-a-position", "F" * 24):
            listed, position = await ids(client, sent, customerId="unknown-1")
            assert listed == [case["id"]]
            assert Position.parse(position)
        assert outcomes(metrics)["no_position"] == 5
        assert await ids(client, position, customerId="unknown-1") == ([case["id"]], None)
    assert await reads_from_standby(client, metrics, position, customerId="unknown-1") == [case["id"]]


async def test_cases_are_read_from_the_primary(client, metrics, standby):
    """With any position."""
    _, early = await write(client)
    await reads_from_standby(client, metrics, early)
    before = outcomes(metrics)
    with paused(standby):
        case, _ = await write(client)
        async with client.get(f"/support/cases/{case['id']}", headers={POSITION: early}) as response:
            assert response.status == 200
            assert POSITION not in response.headers
    assert outcomes(metrics) == before


@pytest.mark.parametrize("timings", [with_standby(max_lag=1.0)])
async def test_lagging_standby_answers_nothing(client, metrics, standby):
    """Whatever position a caller sends. Health, on-call and metrics say so, and that it has caught up."""
    _, early = await write(client)
    await reads_from_standby(client, metrics, early)
    assert await status_of(client) == "ok"
    with paused(standby):
        case, _ = await write(client, customerId="lagging-1")

        async def is_lagging():
            return await status_of(client) == "standby_lagging"

        await eventually(is_lagging)
        assert (await ids(client, early, customerId="lagging-1"))[0] == [case["id"]]
        async with client.get("/support/oncall") as response:
            card = (await response.json())["database"]
        assert card["standby"] == "standby_lagging"
        assert card["standbyLagSeconds"] > 1
        assert metrics.value("support_standby_lag_seconds") > 1
        status = {"dependency": "standby", "status": "standby_lagging"}
        assert metrics.value("support_dependency_status", **status) == 1
    assert case["id"] in await reads_from_standby(client, metrics, early)
    assert await status_of(client) == "ok"


async def test_killed_standby_costs_no_request(client, metrics, standby):
    """The primary answers until it is back."""
    case, position = await write(client, customerId="killed-1")
    await reads_from_standby(client, metrics, position)
    standby.stop()
    assert (await ids(client, position, customerId="killed-1"))[0] == [case["id"]]

    async def is_known():
        return await status_of(client) == "standby_unavailable"

    await eventually(is_known)
    assert (await ids(client, position, customerId="killed-1"))[0] == [case["id"]]
    standby.start()
    assert await reads_from_standby(client, metrics, position, customerId="killed-1") == [case["id"]]


@pytest.mark.parametrize("timings", [with_standby(timeout=0.5)])
async def test_frozen_standby_hands_its_reads_to_the_primary(client, metrics, standby):
    """As soon as it is known to answer nothing, long before the limit on a statement."""
    case, position = await write(client, customerId="frozen-1")
    await reads_from_standby(client, metrics, position)
    standby.freeze()
    answers = await asyncio.gather(*(ids(client, position, customerId="frozen-1") for _ in range(20)))
    assert [listed for listed, _ in answers] == [[case["id"]]] * 20
    standby.thaw()
    assert await reads_from_standby(client, metrics, position, customerId="frozen-1") == [case["id"]]


async def test_wrong_server_is_never_read(make_client, environment, primary, standby):
    """The primary itself, or another database of the same cluster; the service works without it."""
    name = primary.create_database(MIGRATED, "another") if not _has_database(primary, "another") else "another"
    await eventually(lambda: _has_database(standby, name))
    for url in (primary.url(MIGRATED), standby.url(name), f"postgresql://tests@127.0.0.1:{free_port()}/{MIGRATED}"):
        client = await make_client(timings=with_standby(), SUPPORT_DATABASE_READ_URL=url)
        case, position = await write(client, customerId="wrong-1")
        assert case["id"] in (await ids(client, position, customerId="wrong-1"))[0]
        assert await status_of(client) == "standby_unavailable"
        async with client.get("/readyz") as response:
            assert response.status == 200


def _has_database(server, name):
    return server.run(f"SELECT count(*) FROM pg_database WHERE datname = '{name}'") == "1"


async def test_standby_of_another_timeline_is_never_read(make_client, postgres_cluster, primary, environment):
    """It was promoted: what it has since is not what the primary has."""
    with copied_postgres(postgres_cluster, primary) as promoted:
        client = await make_client(timings=with_standby(), SUPPORT_DATABASE_READ_URL=promoted.url(MIGRATED))

        async def is_read():
            return await status_of(client) == "ok"

        await eventually(is_read)
        _, position = await write(client)
        promoted.run("SELECT pg_promote()")
        promoted.run(
            "SELECT count(*) FROM generate_series(1, 2000), pg_logical_emit_message(true, 'x', repeat('x', 999))"
        )
        case, _ = await write(client, customerId="promoted-1")
        assert case["id"] in (await ids(client, position, customerId="promoted-1"))[0]

        async def is_refused():
            return await status_of(client) == "standby_unavailable"

        await eventually(is_refused)


async def test_stream_tells_followers_what_lists_have_to_reach(client, metrics, standby):
    """The client sends that position: a list after a change shows the change, also if another caller made it."""
    async with (
        SupportClient(str(client.make_url("/")), timings=QUICK) as follower,
        aclosing(follower.stream()) as items,
    ):

        async def next_change_of(case):
            while not isinstance(item := await anext(items), Change) or item.case_id != case["id"]:
                pass
            return item

        upcoming = asyncio.create_task(anext(items))
        await eventually(lambda: len(service_of(client).stream) == 1)
        _, position = await write(client)
        await upcoming
        await reads_from_standby(client, metrics, position)
        with paused(standby):
            before = outcomes(metrics)["behind"]
            case = await open_case(client, customerId="followed-1")
            assert (await next_change_of(case)).commit_position
            assert [each.id async for each in follower.list_cases(customer_id="followed-1")] == [case["id"]]
        assert outcomes(metrics)["behind"] == before + 1


async def test_pooler_in_transaction_mode_leads_to_the_standby(make_client, environment, standby, tmp_path):
    """Each read asks the server of its transaction how far it is."""
    pooler = PgBouncer(tmp_path / "pgbouncer", standby.url(MIGRATED), "transaction")
    try:
        client = await make_client(
            timings=with_standby(), SUPPORT_DATABASE_READ_URL=pooler.url, SUPPORT_DATABASE_PREPARED_STATEMENTS="false"
        )
        case, position = await write(client, customerId="pooled-1")
        standby_reads = service_of(client).standby

        async def is_read():
            known = Position.parse(position)
            return await standby_reads.read(sa.text("SELECT pg_is_in_recovery() AS standby"), None, known)

        (row,) = await eventually(is_read)
        assert row.standby
        assert (await ids(client, position, customerId="pooled-1"))[0] == [case["id"]]
        with paused(standby):
            later, position = await write(client, customerId="pooled-1")
            assert later["id"] in (await ids(client, position, customerId="pooled-1"))[0]
    finally:
        pooler.close()


async def test_position_of_a_silent_primary_is_unknown(client, primary):
    """The caller forgets its own then, and its next list reads from the primary."""
    primary.stop()
    try:
        assert await service_of(client).standby.position() == ""
    finally:
        primary.start()


async def test_export_reads_what_was_committed_before_it(environment, client, tmp_path):
    """From the standby once it has replayed that, else from the primary."""
    case = await open_case(client, subject="Exported")
    async with running("export", "--unmasked", cwd=tmp_path, **environment) as command:
        status, printed, _ = await command.wait_for_exit()
    assert status == 0
    assert case["id"] in printed


@pytest.mark.parametrize(
    "variables",
    [
        {"SUPPORT_DATABASE_READ_URL": "postgresql://db/support"},
        {"SUPPORT_DATABASE_URL": "postgresql://db/support", "SUPPORT_DATABASE_READ_URL": "sqlite:///copy.db"},
    ],
)
def test_standby_is_one_of_postgresql(variables):
    """SQLite has none."""
    with pytest.raises(WrongSetting, match="SUPPORT_DATABASE_READ_URL"):
        Settings.load(variables)


class Caller:
    """Writes, and reads after each write what it has written."""

    def __init__(self, client, number, asked):
        self._api = SupportClient(str(client.make_url("/")), timings=QUICK)
        self._number = number
        self._asked = asked  # counts questions of all callers
        self.written = 0

    async def run(self, is_over):
        """Write and ask until it is over."""
        async with self._api as api:
            turn = 0
            while not is_over():
                turn += 1
                customer = f"caller-{self._number}-{turn}"
                case = await api.open_case(subject="Parcel", channel="email", customer_id=customer)
                await self._expect(case.id, customer_id=customer)
                assert (await api.count_cases(customer_id=customer)).count == 1
                await api.change_case(case.id, priority="urgent", assigned_agent_id=customer)
                await self._expect(case.id, customer_id=customer, priority="urgent")
                await api.set_status(case.id, status="resolved")
                await self._expect(case.id, assigned_agent_id=customer, status="resolved")
                self.written += 3
                self._asked.release()

    async def _expect(self, case_id, **filters):
        assert [case.id async for case in self._api.list_cases(**filters)] == [case_id]


@pytest.mark.parametrize("timings", [with_standby(timeout=0.5)])
async def test_no_caller_reads_older_data_than_it_wrote(client, metrics, standby):
    """While the standby is paused, frozen, stopped and started, in an order of chance."""
    draw, asked, over = random.Random(SEED), asyncio.Semaphore(0), asyncio.Event()
    callers = [Caller(client, number, asked) for number in range(CALLERS)]
    faults = [
        (partial(pause, standby), partial(standby.run, "SELECT pg_wal_replay_resume()")),
        (standby.freeze, standby.thaw),
        (standby.stop, standby.start),
    ]

    async def break_standby():
        for _ in range(ROUNDS):
            begin, end = draw.choice(faults)
            await asyncio.to_thread(begin)
            for _ in range(QUESTIONS):
                await asked.acquire()
            await asyncio.to_thread(end)
            before = outcomes(metrics)["standby"]
            await eventually(lambda before=before: outcomes(metrics)["standby"] > before)
        over.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(break_standby())
        for caller in callers:
            group.create_task(caller.run(over.is_set))
    found = outcomes(metrics)
    sys.stdout.write(f"\n{sum(caller.written for caller in callers)} writes, no list without one; reads: {found}\n")
    assert found["standby"]
    assert found["behind"] + found["unavailable"]
