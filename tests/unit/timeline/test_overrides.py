"""The levers of on-call: kept in the database, followed by every replica, ended by the clock."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from support_service.core.principals import CURRENT_PRINCIPAL, Principal
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
def pulled(database, clock):
    """What a replica knows to be pulled."""
    return Overrides(database, clock)


@pytest.fixture
def said(caplog):
    """What the levers have logged since it was last asked, with the level."""
    caplog.set_level(logging.INFO, overrides.__name__)

    def said():
        lines = [
            (record.levelname, record.getMessage()) for record in caplog.records if record.name == overrides.__name__
        ]
        caplog.clear()
        return lines

    return said


async def pull(database, *wanted):
    """Pull levers in one transaction."""
    async with unit_of_work(database, SYSTEM_CONTEXT) as work:
        for lever in wanted:
            await overrides.set_override(work, lever)


async def release(database, *names):
    """Put levers back."""
    async with unit_of_work(database, SYSTEM_CONTEXT) as work:
        return await overrides.clear_overrides(work, names)


def shown(metrics):
    """The gauge's value for each service."""
    return {name: metrics.value(ENABLED, service=name) for name in SERVICES}


@both_databases
async def test_the_store_gives_back_what_it_keeps(database):
    """Levers are read as they were pulled, by name; a second pull takes the place of the first."""
    assert await overrides.read_overrides(database) == []
    await pull(database, TTL, PAYMENT)
    assert await overrides.read_overrides(database) == [PAYMENT, TTL]
    later = Override("payment", None, "still down", NOON + timedelta(hours=2), NOON + timedelta(hours=1))
    await pull(database, later)
    assert await overrides.read_overrides(database) == [later, TTL]


@both_databases
async def test_released_levers_are_gone(database):
    """A release returns what it found, and leaves what it was not asked for."""
    await pull(database, TTL, PAYMENT)
    assert await release(database, "order") == []
    assert await release(database, "payment", "order") == [PAYMENT]
    assert await overrides.read_overrides(database) == [TTL]


async def test_why_is_not_for_customers(database, pulled):
    """A customer reads what is switched off and until when; what on-call wrote beside it is for agents."""
    await pull(database, PAYMENT)
    await pulled.refresh()
    token = CURRENT_PRINCIPAL.set(Principal("customer", "customer", "customer-1"))
    try:
        assert pulled.degraded("payment") == "switched off until 12:30Z"
    finally:
        CURRENT_PRINCIPAL.reset(token)


@both_databases
async def test_a_lever_acts_until_its_time(database, pulled, clock):
    """A lever acts from the refresh on, says why, and ends by the clock alone; nothing is read for that."""
    await pull(database, PAYMENT, TTL)
    assert pulled.degraded("payment") is None
    assert pulled.ttl(300) == 300
    await pulled.refresh()
    assert pulled.degraded("payment") == "switched off until 12:30Z: being restored"
    assert pulled.degraded("order") is None
    assert pulled.ttl(300) == 900
    clock.time = PAYMENT.until - timedelta(microseconds=1)
    assert pulled.degraded("payment")
    clock.time = PAYMENT.until
    assert pulled.degraded("payment") is None
    assert pulled.ttl(300) == 900
    clock.time = TTL.until
    assert pulled.ttl(300) == 300


async def test_an_expired_lever_is_never_pulled(database, pulled, said):
    """A row whose time is over does nothing, and nobody logs it."""
    await pull(database, Override("order", None, "x", NOON, NOON - timedelta(hours=1)))
    await pulled.refresh()
    assert pulled.degraded("order") is None
    assert said() == []


@pytest.mark.parametrize("value", [None, 0.0, -5.0])
async def test_a_ttl_that_is_none(database, pulled, value):
    """A row that someone wrote by hand can't make answers expire at once or never."""
    await pull(database, Override("ttl", value, "x", TTL.until, NOON))
    await pulled.refresh()
    assert pulled.ttl(300) == 300


def test_the_day_is_named_where_it_is_another():
    """Whoever reads the reason knows the day on which the lever ends."""
    assert TTL.text == "set to 900 s until 2026-05-05 12:00Z"


@both_databases
async def test_every_change_is_logged_once(database, pulled, clock, said):
    """A replica logs when a lever is pulled, changed, released or expired, and nothing in between."""
    await pull(database, PAYMENT)
    for lines in ([("WARNING", "Lever payment: switched off until 12:30Z: being restored")], []):
        await pulled.refresh()
        assert said() == lines
    await pull(database, Override("payment", None, "still down", PAYMENT.until, NOON), TTL)
    await pulled.refresh()
    assert said() == [
        ("WARNING", "Lever payment: switched off until 12:30Z: still down"),
        ("WARNING", "Lever ttl: set to 900 s until 2026-05-05 12:00Z"),
    ]
    await release(database, "ttl")
    await pulled.refresh()
    assert said() == [("WARNING", "Lever ttl is released")]
    clock.time = PAYMENT.until
    for lines in ([("WARNING", "Lever payment is expired")], []):
        await pulled.refresh()
        assert said() == lines


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_levers_outlive_the_database(database, pulled, postgres, clock, said):
    """While the database is away, the known levers act until their time; it is logged once, and so is the return."""
    await pull(database, PAYMENT, TTL)
    await pulled.refresh()
    said()
    postgres.stop()
    for number in (1, 0, 0):
        await pulled.refresh()
        assert len(said()) == number
        assert pulled.degraded("payment")
    clock.time = PAYMENT.until
    assert pulled.degraded("payment") is None
    await pulled.refresh()
    assert said() == [("WARNING", "Lever payment is expired")]
    postgres.start()
    await release(database, "ttl")
    await pulled.refresh()
    assert said() == [("INFO", "The levers can be read again"), ("WARNING", "Lever ttl is released")]


async def test_the_gauge_knows_what_is_configured(make_client, upstream_services):
    """A service without an address stands at 0 from the first scrape, one that is in use at 1."""
    client = await make_client(SUPPORT_FULFILLMENT_URL=None)
    assert shown(Scrape(client.app)) == {"order": 1, "payment": 1, "fulfillment": 0}


@both_databases
async def test_a_lever_pulled_before_the_start(database, make_client, upstream_services):
    """A replica that starts knows the levers from its first scrape on."""
    now = overrides.utc_now()
    await pull(database, Override("order", None, "x", now + timedelta(hours=1), now))
    client = await make_client()
    assert shown(Scrape(client.app)) == {"order": 0, "payment": 1, "fulfillment": 1}
