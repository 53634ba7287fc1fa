"""Lists, searches and counts from a standby: no caller reads older data than it has written or was told of."""

import asyncio
import itertools
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from support_service.cases.model.case import CaseSummary
from support_service.client import Change, SupportClient, SupportError
from support_service.platform.database import StandbyTimings
from support_service.platform.database.postgres.standby import Position
from support_service.platform.settings import Settings, WrongSetting
from tests.support.calls import eventually, expect_json, open_case
from tests.support.client.fixtures import QUICK
from tests.support.pgbouncer import PgBouncer
from tests.support.process import running
from tests.support.scrape import Scrape
from tests.support.servers import PostgresServer, free_port
from tests.support.service import service_of
from tests.support.sessions import MIGRATED, copied_postgres, replicate_synchronously
from tests.support.timings import PATIENT_DATABASE, patient_timings

POSITION = "Support-Position"
CALLERS = int(os.environ.get("STANDBY_CALLERS", "4"))
ROUNDS = int(os.environ.get("STANDBY_ROUNDS", "6"))  # of mixed faults; a sixth of them if all are of one kind
QUESTIONS = int(os.environ.get("STANDBY_QUESTIONS", "8"))  # of all callers, during each fault
FAULTS = os.environ.get("STANDBY_FAULTS", "mixed,promote").split(",")  # and `none`, `pause`, `freeze`, `stop`
SEED = int(os.environ.get("STANDBY_SEED", "5"))
# A standby that stands still counts as behind, and not as lagging, unless a test says otherwise.
PATIENT_STANDBY = StandbyTimings(interval=0.1, timeout=10.0, max_lag=3600.0)


def with_standby(**changes):
    """Return the timings of a service with a standby."""
    return patient_timings(database=replace(PATIENT_DATABASE, standby=replace(PATIENT_STANDBY, **changes)))


@pytest.fixture(scope="module")
def primary(postgres_cluster):
    with copied_postgres(postgres_cluster) as server:
        yield server


@pytest.fixture(scope="module")
def followers(postgres_cluster, primary):
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
    pause(server)
    try:
        yield
    finally:
        server.run("SELECT pg_wal_replay_resume()")


@pytest.fixture
def timings():
    return with_standby()


@pytest.fixture
def environment(environment, primary, standby):
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
    async with client.get("/readyz") as response:
        return (await response.json())["standby"]


def outcomes(metrics):
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
        ("/support/customers/standby-1", 2),  # the record of the customer, and the cases
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
    """As long as its replay is paused; a caller who knows less gets an answer of the standby.

    A case is read from the primary with any position.
    """
    _, early = await write(client)
    await reads_from_standby(client, metrics, early)
    with paused(standby):
        before = outcomes(metrics)
        case, late = await write(client, customerId="paused-1")
        async with client.get(f"/support/cases/{case['id']}", headers={POSITION: early}) as response:
            assert (response.status, POSITION in response.headers) == (200, False)
        assert outcomes(metrics) == before
        assert await ids(client, late, customerId="paused-1") == ([case["id"]], None)
        assert outcomes(metrics)["behind"] == before["behind"] + 1
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


@pytest.mark.parametrize("timings", [with_standby(max_lag=1.0)])
async def test_lagging_standby_answers_nothing(client, metrics, standby):
    """Whatever position a caller sends. Health, on-call and metrics say so, and that it has caught up."""
    _, early = await write(client)
    await reads_from_standby(client, metrics, early)

    async def has_caught_up():
        return await status_of(client) == "ok"

    async def is_lagging():
        return await status_of(client) == "standby_lagging"

    await eventually(has_caught_up)
    with paused(standby):
        case, _ = await write(client, customerId="lagging-1")
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
    await eventually(has_caught_up)


@pytest.mark.parametrize("timings", [with_standby(timeout=2.5)])
async def test_killed_or_frozen_standby_costs_no_request(client, metrics, standby):
    """The primary answers until it is back, as soon as it is known to answer nothing: long before a statement ends."""
    case, position = await write(client, customerId="killed-1")
    await reads_from_standby(client, metrics, position)
    standby.freeze()
    answers = await asyncio.gather(*(ids(client, position, customerId="killed-1") for _ in range(20)))
    assert [listed for listed, _ in answers] == [[case["id"]]] * 20
    standby.thaw()
    await reads_from_standby(client, metrics, position)
    standby.stop()
    assert (await ids(client, position, customerId="killed-1"))[0] == [case["id"]]

    async def is_known():
        return await status_of(client) == "standby_unavailable"

    await eventually(is_known)
    assert (await ids(client, position, customerId="killed-1"))[0] == [case["id"]]
    standby.start()
    assert await reads_from_standby(client, metrics, position, customerId="killed-1") == [case["id"]]


async def test_wrong_server_is_never_read(make_client, environment, primary, standby):
    """The primary itself, or another database of the same cluster; the service works without it."""
    name = primary.create_database(MIGRATED, "another") if not _has_database(primary, "another") else "another"
    await eventually(lambda: _has_database(standby, name))
    for url in (primary.url(MIGRATED), standby.url(name), f"postgresql://tests@127.0.0.1:{free_port()}/{MIGRATED}"):
        client = await make_client(timings=with_standby(), SUPPORT_DATABASE_READ_URL=url)
        case, position = await write(client, customerId="wrong-1")
        assert case["id"] in (await ids(client, position, customerId="wrong-1"))[0]
        assert await status_of(client) == "standby_unavailable"
        await expect_json(client.get("/readyz"))


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


async def test_export_reads_what_was_committed_before_it(environment, client, primary, tmp_path):
    """From the standby once it has replayed that, else from the primary.

    The position of a silent primary is unknown: its caller forgets its own then, and reads from the primary.
    """
    case = await open_case(client, subject="Exported")
    async with running("export", "--unmasked", cwd=tmp_path, **environment) as command:
        status, printed, _ = await command.wait_for_exit()
    assert (status, case["id"] in printed) == (0, True)
    primary.stop()
    try:
        assert await service_of(client).standby.position() == ""
    finally:
        primary.start()


def test_standby_is_one_of_postgresql():
    """SQLite has none."""
    read = {"SUPPORT_DATABASE_READ_URL": "postgresql://db/support"}
    both = {"SUPPORT_DATABASE_URL": "postgresql://db/support", "SUPPORT_DATABASE_READ_URL": "sqlite:///copy.db"}
    for variables in (read, both):
        with pytest.raises(WrongSetting, match="SUPPORT_DATABASE_READ_URL"):
            Settings.load(variables)


class Callers:
    """Callers whose client repeats nothing: each writes, and lists after each write what it has written."""

    def __init__(self, client) -> None:
        self._url = str(client.make_url("/"))
        self._asked = asyncio.Semaphore(0)  # counts the questions of all
        self.is_over = False
        self.acknowledged: list[str] = []  # a customer for each case
        self.writes = 0
        self.lists: list[float] = []  # how long each took
        self.requests = 0
        self.refusals: Counter[str] = Counter()
        self.refused_at: list[float] = []
        self._began = time.monotonic()

    async def run(self) -> None:
        await asyncio.gather(*(self._work(number) for number in range(CALLERS)))

    async def ask(self) -> None:
        for _ in range(QUESTIONS):
            await self._asked.acquire()

    async def _work(self, number: int) -> None:
        async with SupportClient(self._url, timings=replace(QUICK, attempts=1)) as api:
            for turn in itertools.count():
                if self.is_over:
                    return
                try:
                    await self._ask_about_a_case(api, f"caller-{number}-{turn}")
                except SupportError as refused:
                    self.refusals[refused.code] += 1
                    self.refused_at.append(time.monotonic())
                    await asyncio.sleep(0.05)  # as a client that was refused
                self._asked.release()

    async def _ask_about_a_case(self, api: SupportClient, customer: str) -> None:
        case = await self._write(api.open_case(subject="Parcel", channel="email", customer_id=customer))
        self.acknowledged.append(customer)
        await self._expect(api, case.id, customer_id=customer)
        self.requests += 1
        assert (await api.count_cases(customer_id=customer)).count == 1
        await self._write(api.change_case(case.id, priority="urgent", assigned_agent_id=customer))
        await self._expect(api, case.id, customer_id=customer, priority="urgent")
        await self._write(api.set_status(case.id, status="resolved"))
        await self._expect(api, case.id, assigned_agent_id=customer, status="resolved")
        await asyncio.sleep(0.05)  # as a caller who looks again, when the standby may have replayed it
        await self._expect(api, case.id, assigned_agent_id=customer, status="resolved")

    async def _write(self, written: Awaitable[CaseSummary]) -> CaseSummary:
        self.requests += 1
        case = await written
        self.writes += 1
        return case

    async def _expect(self, api: SupportClient, case_id: str, **filters: str) -> None:
        self.requests += 1
        began = time.monotonic()
        assert [case.id async for case in api.list_cases(**filters)] == [case_id]
        self.lists.append(time.monotonic() - began)

    def report(self, fault: str, server: PostgresServer, reads: Mapping[str, float]) -> tuple[int, int]:
        """Print what happened; return how many acknowledged cases are lost, and how many are there more than once."""
        rows = server.run("SELECT customer_id, count(*) FROM tickets GROUP BY customer_id", MIGRATED)
        stored = {name: int(number) for name, number in (row.split("|") for row in rows.splitlines())}
        lost = len(set(self.acknowledged) - set(stored))
        doubled = sum(number > 1 for number in stored.values())
        refused = max(self.refused_at) - min(self.refused_at) if self.refused_at else 0.0
        codes = ", ".join(f"{number} `{code}`" for code, number in self.refusals.most_common()) or "none"
        answered = ", ".join(f"{number:.0f} {who}" for who, number in reads.items())
        sys.stdout.write(
            f"\n| {fault} | {self.requests:,} | {self.writes:,} writes | {lost} | {doubled} | "
            f"{codes}, {refused:.1f} s; slowest list {max(self.lists):.2f} s; reads: {answered}; "
            f"in {time.monotonic() - self._began:.0f} s |\n"
        )
        return lost, doubled


@pytest.fixture
def pair(postgres_cluster, fault):
    """A primary and its standby, which a test may break for good; synchronous if it promotes the standby."""
    with copied_postgres(postgres_cluster) as primary, copied_postgres(postgres_cluster, primary) as standby:
        if fault == "promote":
            replicate_synchronously(primary)
        yield primary, standby


def disturbances(fault, primary, standby):
    """Return what begins and what ends each disturbance of a kind."""

    def nothing():
        """Do nothing."""

    def promote():
        primary.stop()
        standby.run("SELECT pg_promote()")

    kinds = {
        "none": (nothing, nothing),
        "pause": (partial(pause, standby), partial(standby.run, "SELECT pg_wal_replay_resume()")),
        "freeze": (standby.freeze, standby.thaw),
        "stop": (standby.stop, standby.start),
    }
    if fault == "promote":
        return [kinds["none"], (promote, nothing), kinds["none"]]
    if fault == "mixed":
        draw = random.Random(SEED)
        return [kinds[draw.choice(("pause", "freeze", "stop"))] for _ in range(ROUNDS)]
    return [kinds[fault]] * (ROUNDS // 6)


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
async def test_no_caller_reads_older_data_than_it_wrote(make_client, pair, fault):
    """While the standby is paused, frozen, stopped and started in an order of chance, and while it is promoted.

    The tests above are short forms.
    """
    primary, standby = pair
    hosts = ",".join(urlsplit(server.url()).netloc.partition("@")[2] for server in pair)
    client = await make_client(
        timings=with_standby(timeout=0.5),
        SUPPORT_DATABASE_URL=f"postgresql://tests@{hosts}/{MIGRATED}",
        SUPPORT_DATABASE_READ_URL=standby.url(MIGRATED),
    )
    metrics = Scrape(service_of(client).metrics)
    callers = Callers(client)

    async def disturb():
        for begin, end in disturbances(fault, primary, standby):
            await asyncio.to_thread(begin)
            await callers.ask()
            await asyncio.to_thread(end)
            if standby.run("SELECT pg_is_in_recovery()") == "t":  # else it is the primary now
                before = outcomes(metrics)["standby"]
                await eventually(lambda before=before: outcomes(metrics)["standby"] > before)
        callers.is_over = True

    async with asyncio.TaskGroup() as group:
        group.create_task(disturb())
        group.create_task(callers.run())
    found = outcomes(metrics)
    accepting = standby if fault == "promote" else primary
    assert callers.report(fault, accepting, found) == (0, 0)
    assert fault == "promote" or not callers.refusals
    assert found["standby"]
    assert fault == "none" or found["behind"] + found["unavailable"]
