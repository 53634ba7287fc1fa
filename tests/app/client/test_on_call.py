"""What on-call does by the client: state, overrides, dead letters, webhook deliveries, the audit log."""

from datetime import UTC, datetime, timedelta

import pytest

from support_service.client import NotFound, VersionConflict
from support_service.core.clock import utc_now
from support_service.platform.database.tables import webhook_deliveries
from tests.support.events.dead_letters import give_up
from tests.support.service import service_of

PAST = datetime(2026, 5, 12, 12, tzinfo=UTC)


async def listed(items):
    return [item async for item in items]


async def test_override_is_set_replaced_and_cleared(api):
    override = await api.set_override("payment", duration="30m", reason="being restored")
    assert (override.name, override.value, override.reason) == ("payment", None, "being restored")
    assert override.until - override.set_at == timedelta(minutes=30)
    ttl = await api.set_override("ttl", duration=timedelta(days=1, hours=2), value=1800)
    assert (ttl.value, ttl.until - ttl.set_at) == (1800, timedelta(hours=26))
    state = await api.get_oncall()
    assert {source.service: source.override for source in state.sources.items}["payment"] == override
    assert (state.cache.ttl_seconds, state.cache.override) == (1800, ttl)
    assert (state.database.status, state.dead_letters.count) == ("ok", 0)
    with pytest.raises(VersionConflict) as conflict:
        await api.set_override("payment", version=override.version - 1, duration="1h", reason="other")
    assert conflict.value.code == "override_changed"
    await api.clear_override("payment", version=override.version)
    with pytest.raises(NotFound) as missing:
        await api.clear_override("payment")
    assert missing.value.code == "override_not_found"


async def test_dead_letters_are_listed_replayed_and_dropped(client, api):
    await give_up(client, *(f"event {number}" for number in range(3)))
    first, second, third = await listed(api.list_dead_letters(page_size=2))
    assert (first.event, first.reason, first.tries) == ("event 0", "no good", 5)
    await api.drop_dead_letter(second.id)
    await api.replay_dead_letter(third.id)
    with pytest.raises(NotFound) as missing:
        await api.drop_dead_letter(second.id)
    assert missing.value.code == "dead_letter_not_found"
    actions = [entry.action for entry in await listed(api.list_audit_log())]
    assert actions[:2] == ["dead-letter.replayed", "dead-letter.dropped"]


async def test_deliveries_are_listed_replayed_and_dropped(client, api):
    row = {
        "endpoint": "desk",
        "type": "t",
        "event": "{}",
        "state": "failed",
        "tries": 9,
        "since": PAST,
        "reason": "why",
    }
    async with service_of(client).database.transaction() as tx:
        for hours in range(3):
            await tx.execute(webhook_deliveries.insert(), row | {"due": PAST + timedelta(hours=hours)})
    latest, middle, _ = await listed(api.list_deliveries(page_size=2))
    assert (latest.endpoint, latest.state, latest.due - middle.due) == ("desk", "failed", timedelta(hours=1))
    await api.drop_delivery(latest.id)
    await api.replay_delivery(middle.id)
    assert [each.id for each in await listed(api.list_deliveries(state="pending"))] == [middle.id]
    with pytest.raises(NotFound) as missing:
        await api.replay_delivery(latest.id)
    assert missing.value.code == "delivery_not_found"


async def test_audit_log_is_listed_by_its_filters_and_verified(api):
    before = utc_now()
    cases = [await api.open_case(subject="Parcel late", channel="email") for _ in range(3)]
    await api.change_case(cases[1].id, priority="high")
    opened = await listed(api.list_audit_log(action="case.opened", start=before, page_size=2))
    assert [entry.case_id for entry in opened] == [case.id for case in reversed(cases)]
    of_case = await listed(api.list_audit_log(case_id=cases[1].id))
    assert [entry.action for entry in of_case] == ["case.changed", "case.opened"]
    assert of_case[0].changes == {"priority": ["normal", "high"]}
    assert all(entry.at < before for entry in await listed(api.list_audit_log(end=before)))
    assert len(await listed(api.list_audit_log(start=before, actor=opened[0].actor))) == 4
    found = await api.verify_audit_log(after=0, limit=10)
    assert (found.holds, found.flaw, found.after) == (True, None, 0)
