"""Overrides by the API: set and cleared by on-call, shared by replicas, recorded in the audit log."""

from datetime import datetime, timedelta

import sqlalchemy as sa

from support_service.platform.database.tables import audit_log
from support_service.timings import TimelineTimings
from tests.support.calls import eventually, expect_json, expect_problem
from tests.support.each import each_row
from tests.support.service import service_of
from tests.support.timings import patient_timings

PAYMENT = "/support/overrides/payment"
DOWN = {"reason": " being\n restored ", "duration": "PT30M"}


async def put(client, name, body, **headers):
    """Set an override; return its JSON."""
    async with client.put(f"/support/overrides/{name}", json=body, headers=headers) as response:
        assert response.status == 200, await response.text()
        found = await response.json()
        assert response.headers["ETag"] == f'"{found["version"]}"'
        return found


def in_effect(client, name):
    """Return the override in effect on a replica."""
    return service_of(client).timeline.overrides.in_effect(name)


async def test_override_is_set_and_cleared(client):
    """It is in effect on this replica before the answer arrives, and is recorded both times."""
    entries = sa.select(audit_log.c.action, audit_log.c.actor, audit_log.c.case_id).order_by(audit_log.c.seq)
    before = len(await service_of(client).database.fetch_all(entries))
    found = await put(client, "payment", DOWN)
    until, at = (datetime.fromisoformat(found[name]) for name in ("until", "setAt"))
    assert until - at == timedelta(minutes=30)
    assert (found["name"], found["value"], found["reason"]) == ("payment", None, "being restored")
    assert found["effect"].startswith("switched off until ")
    assert in_effect(client, "payment").until == until
    await expect_json(client.delete(PAYMENT), 204)
    assert in_effect(client, "payment") is None
    rows = (await service_of(client).database.fetch_all(entries))[before:]
    assert [tuple(row) for row in rows] == [("override.set", "anyone", None), ("override.removed", "anyone", None)]


async def test_override_of_another_on_call_is_not_replaced_unseen(client):
    """With If-Match, a change of an override that has changed, ended or never was is refused.

    With `If-None-Match: *`, it is refused if there is one.
    """
    await expect_problem(client.put(PAYMENT, json=DOWN, headers={"If-Match": '"1"'}), 412, "override_changed")
    first = await put(client, "payment", DOWN, **{"If-None-Match": "*"})
    again = client.put(PAYMENT, json=DOWN | {"reason": "mine"}, headers={"If-None-Match": "*"})
    await expect_problem(again, 412, "override_changed")
    assert in_effect(client, "payment").reason == first["reason"]
    read = {"If-Match": f'"{first["version"]}"'}
    second = await put(client, "payment", DOWN | {"reason": "still down"}, **read)
    assert second["version"] > first["version"]
    await expect_problem(client.put(PAYMENT, json=DOWN, headers=read), 412, "override_changed")
    await expect_problem(client.delete(PAYMENT, headers=read), 412, "override_changed")
    await expect_json(client.delete(PAYMENT, headers={"If-Match": f'"{second["version"]}"'}), 204)


@each_row("duration, seconds", [("90s", 90), ("2h", 7200), ("P1D", 86_400), ("PT90.5S", 90.5)])
async def test_duration_is_iso_8601_or_as_on_the_command_line(shared_client, duration, seconds):
    found = await put(shared_client, "ttl", {"value": 900, "duration": duration})
    until, at = (datetime.fromisoformat(found[name]) for name in ("until", "setAt"))
    assert (until - at).total_seconds() == seconds
    assert (found["value"], found["reason"]) == (900, "")


WRONG_OVERRIDE_IS_REFUSED = [
    *[
        ("payment", {"duration": "PT30M"} | reason, "reason")
        for reason in ({}, {"reason": "  "}, {"reason": "x" * 201})
    ],
    *[("payment", DOWN | {"duration": each}, "duration") for each in ("P8D", "-PT5M", "0s", "30")],
    ("payment", {"reason": "down"}, "duration"),
    ("payment", DOWN | {"value": 5}, "value"),
    *[("ttl", DOWN | value, "value") for value in ({}, {"value": 0}, {"value": 86_401})],
]


@each_row("name, body, field", WRONG_OVERRIDE_IS_REFUSED)
async def test_wrong_override_is_refused(shared_client, name, body, field):
    """The refusal names the field, and nothing is in effect but what was before."""
    before = in_effect(shared_client, name)
    response = await shared_client.put(f"/support/overrides/{name}", json=body)
    problem = await expect_problem(response, 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == [field]
    assert in_effect(shared_client, name) == before


async def test_unknown_or_inactive_override_is_not_found(client):
    """An unknown name can be neither set nor cleared; an expired override can't be cleared."""
    await expect_problem(client.put("/support/overrides/all", json=DOWN), 404, "override_not_found")
    await expect_problem(client.delete("/support/overrides/all"), 404, "override_not_found")
    await expect_problem(client.delete(PAYMENT), 404, "override_not_found")
    await put(client, "payment", DOWN | {"duration": "0.001s"})
    await eventually(lambda: in_effect(client, "payment") is None)
    await expect_problem(client.delete(PAYMENT), 404, "override_not_found")


async def test_other_replicas_apply_an_override(make_client):
    """The override is shared by the database."""
    often = patient_timings(timeline=TimelineTimings(override_refresh_interval=0.02))
    one, other = await make_client(timings=often), await make_client(timings=often)
    await put(one, "order", DOWN)
    await eventually(lambda: in_effect(other, "order"))
