"""Timeline overrides: stored in the database, applied by every replica, expired by the clock."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from support_service.core.principals import Principal
from support_service.idempotency.unit_of_work import SYSTEM_CONTEXT, unit_of_work
from support_service.timeline import overrides
from support_service.timeline.overrides import Override, Overrides
from tests.conftest import both_databases
from tests.support.scrape import Scrape

NOON = datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=UTC)
ENABLED = "support_timeline_source_enabled"
SERVICES = ("order", "payment", "fulfillment")
PAYMENT = Override("payment", None, "being restored", NOON + timedelta(minutes=30), NOON)
TTL = Override("ttl", 900.0, "", NOON + timedelta(days=1), NOON)


@pytest.fixture
def clock():
    """A clock that a test sets."""

    class Clock:
        time = NOON

        def __call__(self):
            return self.time

    return Clock()


@pytest.fixture
def known(database, clock):
    """The overrides that a replica knows."""
    return Overrides(database, clock)


@pytest.fixture
def said(caplog):
    """What the overrides have logged since it was last asked, with the level."""
    caplog.set_level(logging.INFO, overrides.__name__)

    def said():
        lines = [
            (record.levelname, record.getMessage()) for record in caplog.records if record.name == overrides.__name__
        ]
        caplog.clear()
        return lines

    return said


async def set_all(database, *wanted):
    """Set overrides in one transaction."""
    async with unit_of_work(database, SYSTEM_CONTEXT) as work:
        for override in wanted:
            await overrides.set_override(work, override)


async def clear(database, *names):
    """Clear overrides."""
    async with unit_of_work(database, SYSTEM_CONTEXT) as work:
        return await overrides.clear_overrides(work, names)


def shown(metrics):
    """The gauge's value for each service."""
    return {name: metrics.value(ENABLED, service=name) for name in SERVICES}


@both_databases
async def test_the_store_gives_back_what_it_keeps(database):
    """Overrides are read as they were set, by name; a second one replaces the first."""
    assert await overrides.read_overrides(database) == []
    await set_all(database, TTL, PAYMENT)
    assert await overrides.read_overrides(database) == [PAYMENT, TTL]
    later = Override("payment", None, "still down", NOON + timedelta(hours=2), NOON + timedelta(hours=1))
    await set_all(database, later)
    assert await overrides.read_overrides(database) == [later, TTL]


@both_databases
async def test_cleared_overrides_are_gone(database):
    """Clearing returns the overrides that it found, and leaves others."""
    await set_all(database, TTL, PAYMENT)
    assert await clear(database, "order") == []
    assert await clear(database, "payment", "order") == [PAYMENT]
    assert await overrides.read_overrides(database) == [TTL]


def test_why_is_not_for_customers():
    """A customer reads what is switched off and until when; what on-call wrote beside it is for agents."""
    assert PAYMENT.text_for(Principal("customer", "customer", "customer-1")) == "switched off until 12:30Z"
    assert PAYMENT.text_for(Principal("agent", "agent", "agent-1")) == "switched off until 12:30Z: being restored"


@both_databases
async def test_an_override_is_in_effect_until_it_expires(database, known, clock):
    """An override is in effect from the refresh on, says why, and expires by the clock alone, without a read."""
    await set_all(database, PAYMENT, TTL)
    assert known.in_effect("payment") is None
    assert known.ttl(300) == 300
    await known.refresh()
    assert known.in_effect("payment").text == "switched off until 12:30Z: being restored"
    assert known.in_effect("order") is None
    assert known.ttl(300) == 900
    clock.time = PAYMENT.until - timedelta(microseconds=1)
    assert known.in_effect("payment")
    clock.time = PAYMENT.until
    assert known.in_effect("payment") is None
    assert known.ttl(300) == 900
    clock.time = TTL.until
    assert known.ttl(300) == 300


async def test_an_expired_override_has_no_effect(database, known, said):
    """An expired row has no effect, and is not logged."""
    await set_all(database, Override("order", None, "x", NOON, NOON - timedelta(hours=1)))
    await known.refresh()
    assert known.in_effect("order") is None
    assert said() == []


@pytest.mark.parametrize("value", [None, 0.0, -5.0])
async def test_a_ttl_that_is_none(database, known, value):
    """A row that someone wrote by hand can't make answers expire at once or never."""
    await set_all(database, Override("ttl", value, "x", TTL.until, NOON))
    await known.refresh()
    assert known.ttl(300) == 300


def test_the_day_is_named_where_it_is_another():
    """The text has the date if the override does not end today."""
    assert TTL.text == "set to 900 s until 2026-05-05 12:00Z"


@both_databases
async def test_every_change_is_logged_once(database, known, clock, said):
    """A replica logs when an override is set, changed, cleared or expired, and nothing in between."""
    await set_all(database, PAYMENT)
    for lines in ([("WARNING", "Override payment: switched off until 12:30Z: being restored")], []):
        await known.refresh()
        assert said() == lines
    await set_all(database, Override("payment", None, "still down", PAYMENT.until, NOON), TTL)
    await known.refresh()
    assert said() == [
        ("WARNING", "Override payment: switched off until 12:30Z: still down"),
        ("WARNING", "Override ttl: set to 900 s until 2026-05-05 12:00Z"),
    ]
    await clear(database, "ttl")
    await known.refresh()
    assert said() == [("WARNING", "Override ttl is cleared")]
    clock.time = PAYMENT.until
    for lines in ([("WARNING", "Override payment is expired")], []):
        await known.refresh()
        assert said() == lines


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_overrides_stay_in_effect_without_the_database(database, known, postgres, clock, said):
    """The known overrides stay in effect while the database is away, which is logged once, as is its return."""
    await set_all(database, PAYMENT, TTL)
    await known.refresh()
    said()
    postgres.stop()
    for number in (1, 0, 0):
        await known.refresh()
        assert len(said()) == number
        assert known.in_effect("payment")
    clock.time = PAYMENT.until
    assert known.in_effect("payment") is None
    await known.refresh()
    assert said() == [("WARNING", "Override payment is expired")]
    postgres.start()
    await clear(database, "ttl")
    await known.refresh()
    assert said() == [("INFO", "The timeline overrides can be read again"), ("WARNING", "Override ttl is cleared")]


async def test_the_gauge_knows_what_is_configured(make_client, upstream_services):
    """A service without an address stands at 0 from the first scrape, one that is in use at 1."""
    client = await make_client(SUPPORT_FULFILLMENT_URL=None)
    assert shown(Scrape(client.app)) == {"order": 1, "payment": 1, "fulfillment": 0}


@both_databases
async def test_an_override_from_before_the_start(database, make_client, upstream_services):
    """A replica that starts applies the overrides from its first scrape on."""
    now = overrides.utc_now()
    await set_all(database, Override("order", None, "x", now + timedelta(hours=1), now))
    client = await make_client()
    assert shown(Scrape(client.app)) == {"order": 0, "payment": 1, "fulfillment": 1}
