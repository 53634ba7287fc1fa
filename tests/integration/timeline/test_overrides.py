"""Timeline overrides are stored in the database, applied by every replica, and expire by the clock."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest

from support_service.core.domain.principals import Principal
from support_service.core.errors import VersionConflict
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, unit_of_work
from support_service.timeline import overrides
from support_service.timeline.overrides import Override, Overrides, OverrideService
from tests.conftest import both_databases
from tests.support.calls import eventually
from tests.support.scrape import Scrape
from tests.support.service import service_of

NOON = datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=UTC)
ENABLED = "support_timeline_source_enabled"
SERVICES = ("order", "payment", "fulfillment")
PAYMENT = Override("payment", None, "being restored", NOON + timedelta(minutes=30), NOON)
TTL = Override("ttl", 900.0, "", NOON + timedelta(days=1), NOON)


class TurnedClock:
    time = NOON

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return TurnedClock()


@pytest.fixture
def loaded(database, clock):
    return Overrides(database, clock)


@pytest.fixture
def new_log_lines(caplog):
    caplog.set_level(logging.INFO, overrides.__name__)

    def new_log_lines():
        lines = [
            (record.levelname, record.getMessage()) for record in caplog.records if record.name == overrides.__name__
        ]
        caplog.clear()
        return lines

    return new_log_lines


async def set_all(database, *wanted):
    async with unit_of_work(database, SYSTEM_ORIGIN) as work:
        for override in wanted:
            await overrides.set_override(work, override)


async def clear(database, *names):
    async with unit_of_work(database, SYSTEM_ORIGIN) as work:
        return await overrides.clear_overrides(work, names)


def source_enabled(metrics):
    return {name: metrics.value(ENABLED, service=name) for name in SERVICES}


@both_databases
async def test_stored_overrides_are_read_by_name(database):
    """As they were set, sorted by name; a second one of a name replaces the first. Only named ones are cleared."""
    assert await overrides.read_overrides(database) == []
    await set_all(database, TTL, PAYMENT)
    assert await overrides.read_overrides(database) == [PAYMENT, TTL]
    later = Override("payment", None, "still down", NOON + timedelta(hours=2), NOON + timedelta(hours=1))
    await set_all(database, later)
    assert await overrides.read_overrides(database) == [later, TTL]
    assert await clear(database, "order") == []
    assert await clear(database, "payment", "order") == [later]
    assert await overrides.read_overrides(database) == [TTL]


def test_reason_of_an_override_is_hidden_from_customers():
    """A customer reads what is switched off and until when; only agents read the reason.

    The text has the date unless the override ends today.
    """
    customer, agent = [Principal(role, role, f"{role}-1") for role in ("customer", "agent")]
    assert PAYMENT.text_shown_to(customer) == "switched off until 12:30Z"
    assert PAYMENT.text_shown_to(agent) == "switched off until 12:30Z: being restored"
    assert TTL.effect_and_reason == "set to 900 s until 2026-05-05 12:00Z"


async def test_override_is_in_effect_until_it_expires(database, loaded, clock):
    """An override takes effect at the next refresh, reports its reason, and expires by the clock without a query."""
    await set_all(database, PAYMENT, TTL)
    assert loaded.in_effect("payment") is None
    assert loaded.ttl(300) == 300
    await loaded.refresh()
    assert loaded.in_effect("payment").effect_and_reason == "switched off until 12:30Z: being restored"
    assert loaded.in_effect("order") is None
    assert loaded.ttl(300) == 900
    clock.time = PAYMENT.until - timedelta(microseconds=1)
    assert loaded.in_effect("payment")
    clock.time = PAYMENT.until
    assert loaded.in_effect("payment") is None
    assert loaded.ttl(300) == 900
    clock.time = TTL.until
    assert loaded.ttl(300) == 300


async def test_expired_or_invalid_override_is_ignored(database, loaded, new_log_lines):
    """An expired row has no effect and is not logged.

    An invalid row that was inserted by hand can't make snapshots expire at once or never.
    """
    await set_all(database, Override("order", None, "x", NOON, NOON - timedelta(hours=1)))
    await loaded.refresh()
    assert (loaded.in_effect("order"), new_log_lines()) == (None, [])
    for value in (None, 0.0, -5.0):
        await set_all(database, Override("ttl", value, "x", TTL.until, NOON))
        await loaded.refresh()
        assert loaded.ttl(300) == 300


async def test_each_change_of_an_override_is_logged_once(database, loaded, clock, new_log_lines):
    """A replica logs when an override is set, changed, cleared or expired, and nothing in between."""
    await set_all(database, PAYMENT)
    for lines in ([("WARNING", "Override payment: switched off until 12:30Z: being restored")], []):
        await loaded.refresh()
        assert new_log_lines() == lines
    await set_all(database, Override("payment", None, "still down", PAYMENT.until, NOON), TTL)
    await loaded.refresh()
    assert new_log_lines() == [
        ("WARNING", "Override payment: switched off until 12:30Z: still down"),
        ("WARNING", "Override ttl: set to 900 s until 2026-05-05 12:00Z"),
    ]
    await clear(database, "ttl")
    await loaded.refresh()
    assert new_log_lines() == [("WARNING", "Override ttl is cleared")]
    clock.time = PAYMENT.until
    for lines in ([("WARNING", "Override payment is expired")], []):
        await loaded.refresh()
        assert new_log_lines() == lines


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_overrides_stay_in_effect_when_the_database_is_down(database, loaded, postgres, clock, new_log_lines):
    """Loaded overrides stay in effect; the outage and the recovery are logged once each."""
    await set_all(database, PAYMENT, TTL)
    await loaded.refresh()
    new_log_lines()
    postgres.stop()
    for number in (1, 0, 0):
        await loaded.refresh()
        assert len(new_log_lines()) == number
        assert loaded.in_effect("payment")
    clock.time = PAYMENT.until
    assert loaded.in_effect("payment") is None
    await loaded.refresh()
    assert new_log_lines() == [("WARNING", "Override payment is expired")]
    postgres.start()
    await clear(database, "ttl")
    await loaded.refresh()
    assert new_log_lines() == [
        ("INFO", "The timeline overrides can be read again"),
        ("WARNING", "Override ttl is cleared"),
    ]


async def test_source_enabled_gauge_shows_configuration_and_overrides(database, make_client, upstream_services):
    """From the first scrape on, a source without an address or with an override is 0, and another one is 1."""
    now = overrides.utc_now()
    await set_all(database, Override("order", None, "x", now + timedelta(hours=1), now))
    client = await make_client(SUPPORT_FULFILLMENT_URL=None)
    assert source_enabled(Scrape(service_of(client).metrics)) == {"order": 0, "payment": 1, "fulfillment": 0}


async def test_answer_of_an_older_read_replaces_no_newer_one(database, clock, loaded, monkeypatch):
    """A change applies at once on the replica that made it, also if a regular read is under way."""
    fetch_all, asked, release = database.fetch_all, [], asyncio.Event()

    async def late(statement, *arguments):
        rows = await fetch_all(statement, *arguments)
        asked.append(rows)
        if len(asked) == 1:
            await release.wait()
        return rows

    monkeypatch.setattr(database, "fetch_all", late)
    regular = asyncio.create_task(loaded.refresh())
    await eventually(lambda: asked)
    await set_all(database, Override("order", None, "x", NOON + timedelta(hours=1), NOON))
    own = asyncio.create_task(loaded.refresh())
    await asyncio.wait({own}, timeout=0.1)  # it waits for the other one
    release.set()
    await asyncio.gather(regular, own)
    assert loaded.in_effect("order")


async def test_replacement_has_a_later_version_although_the_other_clock_was_ahead(database):
    """So a request that expects the version before it changes nothing."""
    ahead = datetime.now(UTC) + timedelta(minutes=2)
    before = Override("payment", None, "down", ahead + timedelta(minutes=30), ahead)
    await set_all(database, before)
    service = OverrideService(database, Overrides(database))
    fields = {"value": None, "reason": "still down", "duration": timedelta(minutes=30)}
    assert (await service.put(SYSTEM_ORIGIN, "payment", **fields)).version > before.version


@both_databases
async def test_of_two_changes_of_a_version_one_is_made(database):
    """A replacement has a later version; a request that expects another version changes nothing."""
    service = OverrideService(database, Overrides(database))

    async def put(reason, expected=None):
        thirty = timedelta(minutes=30)
        return await service.put(
            SYSTEM_ORIGIN, "payment", value=None, reason=reason, duration=thirty, expected=expected
        )

    first = await put("down")
    changes = await asyncio.gather(*(put(f"{n}", {first.version}) for n in range(2)), return_exceptions=True)
    (refused,) = [each for each in changes if isinstance(each, VersionConflict)]
    (second,) = [each for each in changes if each is not refused]
    assert (await overrides.read_overrides(database), second.version > first.version) == ([second], True)
    with pytest.raises(VersionConflict):
        await service.clear(SYSTEM_ORIGIN, "payment", {first.version})
    await service.clear(SYSTEM_ORIGIN, "payment", {second.version})
    assert await overrides.read_overrides(database) == []
