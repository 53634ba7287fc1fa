"""The state of the service for on-call: every part, also while one of them is down."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from support_service.api.panel_links import panel_id
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.core.clock import utc_now
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from support_service.core.errors import Unavailable
from support_service.core.problem_codes import PROBLEM_CODES_BY_NAME
from support_service.oncall.judge import OncallTimings
from support_service.timeline.source_health import RecentCalls
from tests.support.calls import eventually, expect_json, open_case
from tests.support.service import service_of
from tests.support.timings import PATIENT_API, patient_timings

CARDS = [
    *("sources", "cache", "database", "backlog", "outbox", "stream", "deadLetters", "webhooks", "probe"),
    *("auditSealer", "eventLoop"),
]
REPLICA = {"sources", "database", "eventLoop"}


async def state(client):
    """Return the state of the service's parts."""
    return await expect_json(client.get("/support/oncall"))


async def test_every_part_has_a_card(make_client):
    """A healthy service says so; the probe is not known to this process. Cards name whose figures they show."""
    once = OncallTimings(sample_interval=3600)  # one sample shows no change, such as a late event loop
    client = await make_client(timings=patient_timings(oncall=once))
    await open_case(client)

    async def all_read():
        found = await state(client)
        return found if found["eventLoop"]["lagSeconds"] is not None else None

    found = await eventually(all_read)
    assert list(found) == ["replica", "version", "at", "verdict", *CARDS]
    assert found["verdict"] == {"level": "good", "problems": [], "deliberate": []}
    assert {name for name in CARDS if found[name]["status"] == "ok"} == {*CARDS} - {"probe"}
    assert found["probe"]["status"] == "unknown"
    assert {name for name in CARDS if found[name]["scope"] == "replica"} == REPLICA
    assert [each["service"] for each in found["sources"]["items"]] == [*UPSTREAM_SERVICES]
    assert found["cache"]["ttlSeconds"] == found["cache"]["defaultTtlSeconds"] == 300
    assert found["deadLetters"]["count"] == found["backlog"]["files"] == 0
    assert found["database"]["answerSeconds"] >= 0
    assert {found[name]["runbook"] for name in CARDS} == {found[name]["panel"] for name in CARDS} == {None}


async def test_cards_link_runbooks_and_panels(make_client):
    """Each card links the page and the panel of its part."""
    client = await make_client(SUPPORT_RUNBOOKS_URL="https://ops/runbooks/", SUPPORT_GRAFANA_URL="https://grafana")
    found = await state(client)
    assert found["stream"]["runbook"] == "https://ops/runbooks/support-events-consumer-stalled.md"
    assert found["stream"]["panel"] == f"https://grafana/d/support-overview?viewPanel={panel_id('Support events lag')}"
    assert found["eventLoop"]["panel"].startswith("https://grafana/d/support-capacity?viewPanel=")


async def test_failing_source_and_its_override_are_shown(make_client, upstream_services):
    """The card has the breaker, the share of errors and the last answer; with an override it is not a fault."""
    client = await make_client()
    payment = service_of(client).timeline.sources["payment"]
    payment.recent.record(0.1, "ok")
    for _ in range(3):
        payment.recent.record(2.50049, "timeout")
    for _ in range(5):
        payment.breaker.report(payment.breaker.admit(), healthy=False)
    sources = (await state(client))["sources"]
    shown = sources["items"][1]
    assert (sources["status"], sources["error"]) == ("unavailable", "The circuit breaker rejects calls to: payment.")
    assert (shown["breaker"], shown["calls"], shown["errorShare"], shown["p95Seconds"]) == ("open", 4, 0.75, 2.5)
    assert utc_now() - datetime.fromisoformat(shown["lastAnswerAt"]) < timedelta(minutes=1)
    override = {"reason": "being restored", "duration": "PT30M"}
    async with client.put("/support/overrides/payment", json=override) as response:
        set_override = await response.json()
    async with client.put("/support/overrides/ttl", json={"value": 900, "duration": "1h"}):
        pass
    found = await state(client)
    assert found["sources"]["status"] == "ok"
    assert found["sources"]["items"][1]["override"] == set_override
    assert (found["cache"]["ttlSeconds"], found["cache"]["override"]["value"]) == (900, 900)


def test_recent_calls_are_summarized():
    """Calls that the breaker rejected count as errors, and not in the times."""
    recent = RecentCalls()
    assert (recent.summary().error_share, recent.summary().p95, recent.summary().last_answer_at) == (None, None, None)
    for seconds in range(1, 21):
        recent.record(seconds, "not_found")
    for _ in range(20):
        recent.record(0, "open")
    found = recent.summary()
    assert (found.calls, found.error_share, found.p95) == (40, 0.5, 19)


async def test_old_figures_are_stale(make_client):
    """A card whose figures are no longer read says so, and when they were read."""
    client = await make_client(timings=patient_timings(api=replace(PATIENT_API, stale_after=timedelta(seconds=-1))))
    found = await state(client)
    assert {name for name in CARDS if found[name]["status"] == "stale"} >= {"backlog", "outbox", "auditSealer"}
    assert all(found[name]["asOf"] for name in ("backlog", "outbox", "auditSealer"))


@pytest.mark.parametrize("silent", [False, True])
async def test_unavailable_database_is_reported(client, monkeypatch, silent):
    """The response arrives whether the database refuses or never answers. The other cards have their figures."""

    async def ping():
        if silent:
            await asyncio.Event().wait()
        raise Unavailable("database_unavailable", "It can't be reached.")

    monkeypatch.setattr(service_of(client).database, "ping", ping)
    found = await state(client)
    assert (found["database"]["status"], found["database"]["answerSeconds"]) == ("unavailable", None)
    assert found["database"]["error"] == PROBLEM_CODES_BY_NAME["database_unavailable"].meaning
    assert found["cache"]["status"] == found["auditSealer"]["status"] == "ok"


@pytest.mark.parametrize(
    ("grown", "minutes", "free", "expected"),
    [
        (1_000, 60, 4_000, 4 * 3600),
        (1_000, 120, 4_000, 8 * 3600),
        (1_000, 59, 4_000, None),  # no hour has passed
        (0, 60, 4_000, None),
        (-1_000, 60, 4_000, None),
        (1_000, 60, 20_000, None),  # a fifth of the disk is free
    ],
)
async def test_time_until_the_disk_is_full(client, monkeypatch, grown, minutes, free, expected):
    """It follows from the growth of the backlog in an hour or more, if little of the disk is free."""
    await give_disk(client, monkeypatch, free=free, size=100_000)
    backlog = service_of(client).attachments.backlog
    now = utc_now()
    backlog.history.clear()
    backlog.history.extend([(now - timedelta(minutes=minutes), 5_000), (now, 5_000 + grown)])
    assert (await state(client))["backlog"]["fullInSeconds"] == expected


async def test_other_programs_do_not_fill_the_disk(client, monkeypatch):
    """Another program writes 20 GB in an hour, and 48 GB are free: no time until the disk is full."""
    service_of(client).attachments.backlog.history.clear()
    read_at = utc_now()
    monkeypatch.setattr("support_service.attachments.backlog.utc_now", lambda: read_at)
    for free, hours in ((68_000_000_000, 0), (48_000_000_000, 1)):
        read_at += timedelta(hours=hours)
        await give_disk(client, monkeypatch, free=free, size=250_000_000_000)
    found = await state(client)
    assert (found["backlog"]["diskFreeBytes"], found["backlog"]["fullInSeconds"]) == (48_000_000_000, None)
    assert "storage" not in {each["part"] for each in found["verdict"]["problems"]}


async def give_disk(client, monkeypatch, *, free, size):
    """Let the local storage be on a disk of this size, with this free space."""
    monkeypatch.setattr(LocalAttachmentStorage, "free_bytes", lambda _: free)
    monkeypatch.setattr(LocalAttachmentStorage, "disk_bytes", lambda _: size)
    await service_of(client).attachments.backlog.refresh()
