"""Channels that the settings add, and channels whose cases are synthetic."""

import pytest

from support_service.platform.database.tables import outbox, tickets
from tests.support.calls import add_message, expect_json, expect_problem, list_cases, open_case, upload
from tests.support.scrape import Scrape
from tests.support.service import service_of

CREATED = "support_ticket_created_total"


async def test_added_channel_has_a_label_from_the_start(make_client):
    """Other unknown channels share the label `other`, so that clients can't create series."""
    client = await make_client(SUPPORT_CHANNELS="in-store, email")
    metrics = Scrape(service_of(client).metrics)
    assert metrics.value(CREATED, channel="in-store") == 0
    for channel in ("in-store", "in-store", "letter"):
        await open_case(client, channel=channel)
    assert metrics.nonzero(CREATED) == {"in-store": 2, "other": 1}


@pytest.fixture
async def monitored(make_client):
    """A client of a service whose synthetic cases have the channel `monitoring`."""
    return await make_client(SUPPORT_SYNTHETIC_CHANNELS="monitoring")


async def test_cases_of_a_synthetic_channel_are_in_no_list_and_no_count(monitored):
    """They publish no event; their channel can still be listed."""
    metrics = Scrape(service_of(monitored).metrics)
    case = await open_case(monitored, channel="monitoring", assignedAgentId="a")
    await add_message(monitored, case)
    await upload(monitored, case)
    assert metrics.nonzero(CREATED) == {"synthetic": 1}
    for name in ("support_conversation_added_total", "support_attachment_stored_total"):
        assert metrics.total(name) == 0
    assert (await list_cases(monitored))["items"] == []
    assert [each["id"] for each in (await list_cases(monitored, channel="monitoring"))["items"]] == [case["id"]]
    assert (await expect_json(monitored.get("/support/agents/a/workload")))["open"] == 0
    assert await service_of(monitored).database.fetch_all(outbox.select().where(outbox.c.case_id == case["id"])) == []
    await expect_json(monitored.delete(f"/support/cases/{case['id']}"), 204)
    assert metrics.total("support_attachment_deleted_total") == 0


async def test_channel_that_is_not_synthetic_any_more_has_real_cases(monitored):
    """Its metric label stays that of the probe, which alerts leave out, so these cases count as `other`."""
    metrics = Scrape(service_of(monitored).metrics)
    case = await open_case(monitored, channel="synthetic")
    assert metrics.nonzero(CREATED) == {"other": 1}
    assert [each["id"] for each in (await list_cases(monitored))["items"]] == [case["id"]]
    await expect_problem(monitored.delete(f"/support/cases/{case['id']}"), 409, "case_not_synthetic")


async def test_case_of_an_earlier_release_is_synthetic_by_its_channel(client):
    """A release without the column may write during an update; its probe's case can be deleted by any replica."""
    case = await open_case(client, channel="synthetic")
    real = await open_case(client, channel="email")
    async with service_of(client).database.transaction() as tx:
        await tx.execute(tickets.update().values(synthetic=None))
    assert [each["id"] for each in (await list_cases(client))["items"]] == [real["id"]]
    await expect_json(client.delete(f"/support/cases/{case['id']}"), 204)
    await expect_problem(client.delete(f"/support/cases/{real['id']}"), 409, "case_not_synthetic")
