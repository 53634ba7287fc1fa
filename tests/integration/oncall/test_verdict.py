"""The verdict names each fault while it lasts, and nothing before and after it."""

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import sqlalchemy as sa

from support_service.core.clock import utc_now
from support_service.platform.database import DatabaseTimings
from support_service.platform.database.shared import create_database
from support_service.timeline.source_health import BreakerTimings
from support_service.timings import TimelineTimings
from tests.support.calls import expect_json, form, open_case
from tests.support.service import service_of
from tests.support.timings import PATIENT_DATABASE, PATIENT_POSTGRES, patient_timings
from tests.support.upstream_faults import status

NEW_CASE = {"subject": "Late", "customerId": "customer-1", "channel": "email"}
RESOLVED = 10.0  # minutes; by then the conditions have left their windows, and alerts that are kept have ended
SHORT_LOCKS = DatabaseTimings(postgres=replace(PATIENT_POSTGRES, lock_timeout=0.05))


def problem(verdict, alert):
    return next(each for each in verdict["problems"] if each["alert"] == alert)


def expect_good(verdict):
    """Fail with its problems unless a verdict is good. On a busy machine the event loop lags, without a fault."""
    problems = [each for each in verdict["problems"] if each["part"] != "eventLoop"]
    assert problems == []
    assert verdict["level"] == "good" or verdict["problems"]


def levels(verdicts):
    return {each["level"] for each in verdicts}


@pytest.mark.parametrize(("code", "failing"), [(429, 30), (500, 41)])
async def test_share_of_failing_calls_is_a_problem(make_client, upstream_services, payments, watch, code, failing):
    """While 30 % or 41 % of the calls of a service fail, no poll is good; the verdict has the share."""
    client = await make_client(timings=patient_timings(timeline=TimelineTimings(breaker=BreakerTimings(0.01, 0.01))))
    watched = watch(client)
    calls = 0

    async def some_fail(exchange):
        nonlocal calls
        calls += 1
        bad = calls * failing // 100 > (calls - 1) * failing // 100  # evenly
        await (status(code)(exchange) if bad else payments.answer(exchange))

    async def read_timelines():
        for _ in range(20):
            case = await open_case(client, context=[{"type": "order", "orderId": f"ORD-{utc_now().timestamp()}"}])
            await expect_json(client.get(f"/support/cases/{case['id']}?includeTimeline=true"))

    await read_timelines()
    expect_good(await watched.poll())
    payments.fault = some_fail
    verdicts = await watched.poll_during(read_timelines, polls=5)
    assert "good" not in levels(verdicts)
    for verdict in verdicts:
        found = next(each for each in verdict["problems"] if each["source"] == "payment")
        assert (found["part"], found["scope"], found["foundBy"]) == ("sources", "replica", ["replica"])
        assert re.fullmatch(r"payment: \d+% of \d+ calls fail", found["detail"])
        assert found["figure"] > found["limit"]
    assert watched.answer["sources"]["status"] in ("failing", "unavailable")  # its breaker may have opened
    payments.heal()
    await watched.poll(RESOLVED)
    await read_timelines()
    expect_good(await watched.poll())
    assert watched.answer["sources"]["status"] == "ok"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_locked_table_is_a_problem(make_client, database_url, watch):
    """A forgotten transaction locks the cases: a ping answers, and each poll says that operations fail."""
    client = await make_client(timings=patient_timings(database=SHORT_LOCKS))
    watched = watch(client)
    await open_case(client)
    expect_good(await watched.poll())
    other = create_database(database_url, timings=PATIENT_DATABASE)

    async def open_cases():
        answers = await asyncio.gather(*(client.post("/support/cases", json=NEW_CASE) for _ in range(6)))
        assert {answer.status for answer in answers} == {503}

    async with other.transaction() as tx:
        await tx.execute(sa.text("LOCK TABLE tickets IN ACCESS EXCLUSIVE MODE"))
        verdicts = await watched.poll_during(open_cases)
        assert "good" not in levels(verdicts)
        found = problem(verdicts[-1], "SupportDatabaseFailing")
        assert (found["part"], found["severity"]) == ("database", "critical")
        assert watched.answer["database"]["status"] == "failing"
        assert watched.answer["database"]["answerSeconds"] is not None
        verdicts = await watched.poll_during(open_cases, polls=10)
        assert problem(verdicts[-1], "SupportDatabaseFailing")["state"] == "firing"
        assert verdicts[-1]["level"] == "bad"
    await other.close()
    await open_case(client)
    expect_good(await watched.poll(RESOLVED))
    assert watched.answer["database"]["status"] == "ok"


async def test_storage_that_refuses_writes_is_a_problem(client, attachment_dir, watch):
    """The folder of attachments can't be written: each poll says so, with the share of refused uploads."""
    watched = watch(client)
    case = await open_case(client)

    async def upload_files(expected=503):
        for _ in range(6):
            async with client.post(f"/support/cases/{case['id']}/attachments", data=form(b"hello")) as response:
                assert response.status == expected, await response.text()

    await upload_files(201)
    expect_good(await watched.poll())
    async with replaced_by_a_file(attachment_dir):
        verdicts = await watched.poll_during(upload_files)
        assert "good" not in levels(verdicts)
        found = problem(verdicts[-1], "SupportUploadsRefused")
        assert (found["part"], found["unit"], found["limit"]) == ("storage", "share", 0.05)
        assert found["action"]["en"]["text"] == "Restore the folder"
        assert found["figure"] > 0.5
    expect_good(await watched.poll(RESOLVED))


@asynccontextmanager
async def replaced_by_a_file(folder):
    away = folder.with_name("attachments-away")
    folder.rename(away)
    folder.write_text("no folder")
    yield
    folder.unlink()
    away.rename(folder)


async def test_waiting_events_are_a_problem(make_client, redis, watch, no_consumer, patient_cache):
    """6,000 events wait and no one consumes them."""
    client = await make_client(SUPPORT_REDIS_URL=redis.url)
    watched = watch(client)
    service = service_of(client)
    await service.consumer.refresh_backlog()
    expect_good(await watched.poll())
    stream = service.settings.events.inbound_stream
    await service.broker.publish(stream, [b"{}"] * 6000, max_length=100_000, trim=False)
    await service.consumer.refresh_backlog()
    verdicts = [await watched.poll() for _ in range(8)]
    assert "good" not in levels(verdicts)
    found = problem(verdicts[-1], "SupportEventsConsumerStalled")
    assert (found["part"], found["figure"], found["scope"], found["replicas"]) == ("stream", 6000, "service", None)
    assert watched.answer["stream"]["status"] == "failing"


async def test_refused_callers_are_a_problem(principals, watch):
    """Tokens are no longer accepted: each poll says which share of callers is refused."""
    client = principals.client
    watched = watch(client, lambda: principals.read_json("supervisor", "GET", "/support/oncall"))

    async def refused():
        for number in range(25):
            headers = {"Authorization": f"Bearer of caller {number % 5}"}
            await expect_json(client.get("/support/cases", headers=headers), 401)

    expect_good(await watched.poll())
    verdicts = await watched.poll_during(refused)
    assert "good" not in levels(verdicts)
    found = problem(verdicts[-1], "SupportAccessRefused")
    assert (found["part"], found["severity"]) == ("access", "critical")
    expect_good(await watched.poll(RESOLVED))
