"""`support-service timeline`: the commands of on-call, as processes."""

import re
from datetime import timedelta

import pytest

from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, unit_of_work
from support_service.timeline import overrides
from support_service.timeline.overrides import Override
from tests.support.calls import eventually
from tests.support.scrape import Scrape
from tests.support.service import service_of

pytestmark = pytest.mark.usefixtures("processes")

NO_OVERRIDES = "No override is active: every configured service is called, and SUPPORT_TIMELINE_CACHE_TTL applies.\n"
NOTE = "Every replica applies it within about 2 s.\n"


async def test_overrides_are_set_shown_and_cleared(run):
    """Status shows an override with its reason until it is cleared."""
    assert await run("timeline", "status") == (0, NO_OVERRIDES, "")
    status, out, errors = await run("timeline", "degrade", "payment", "--for", "1h", "--reason", "  being\nrestored ")
    assert (status, errors) == (0, "")
    assert re.fullmatch(rf"payment is switched off until [0-9: -]+Z: being restored\. {re.escape(NOTE)}", out)
    status, out, errors = await run("timeline", "ttl", "1800", "--for", "2h")
    assert (status, errors) == (0, "")
    assert re.fullmatch(rf"ttl is set to 1800 s until [0-9: -]+Z\. {re.escape(NOTE)}", out)
    status, out, errors = await run("timeline", "status")
    assert (status, errors) == (0, "")
    at = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"
    head, payment, ttl = out.splitlines()
    assert head.split() == ["OVERRIDE", "VALUE", "UNTIL", "LEFT", "SET", "AT", "REASON"]
    left = re.fullmatch(rf"payment +off +{at} +(\d+) s +{at} +being restored", payment)
    assert 3000 <= int(left[1]) <= 3600
    left = re.fullmatch(rf"ttl +1800 s +{at} +(\d+) s +{at} +-", ttl)
    assert 7000 <= int(left[1]) <= 7200
    assert await run("timeline", "clear", "order") == (0, "Nothing to clear: the override is not active.\n", "")
    assert await run("timeline", "clear", "all") == (0, f"Cleared: payment, ttl. {NOTE}", "")
    assert await run("timeline", "status") == (0, NO_OVERRIDES, "")


async def test_every_replica_applies_overrides(run, make_client, upstream_services):
    """Every replica applies a set or cleared override without a restart; `restore` is the former name of `clear`."""
    replicas = [Scrape(service_of(await make_client()).metrics) for _ in range(2)]
    in_use = dict.fromkeys(UPSTREAM_SERVICES, 1)
    for arguments, expected in (
        (("status",), in_use),
        (("degrade", "payment", "--for", "30m", "--reason", "being restored"), in_use | {"payment": 0}),
        (("restore", "payment"), in_use),
    ):
        status, _, errors = await run("timeline", *arguments)
        assert (status, errors) == (0, "")
        await eventually(lambda expected=expected: all(enabled_sources(metrics) == expected for metrics in replicas))


def enabled_sources(metrics):
    return {name: metrics.value("support_timeline_source_enabled", service=name) for name in UPSTREAM_SERVICES}


async def test_expired_override_is_neither_shown_nor_cleared(run, database):
    now = overrides.utc_now()
    async with unit_of_work(database, SYSTEM_ORIGIN) as work:
        await overrides.set_override(
            work, Override("order", None, "x", now - timedelta(seconds=1), now - timedelta(hours=1))
        )
    assert await run("timeline", "status") == (0, NO_OVERRIDES, "")
    assert await run("timeline", "clear", "all") == (0, "Nothing to clear: the override is not active.\n", "")


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_read_only_database_shows_overrides_and_refuses_changes(run, postgres, database_url):
    """A database may be read-only after a failover. The error is one line."""
    postgres.run(f"ALTER DATABASE {database_url.rpartition('/')[2]} SET default_transaction_read_only = on")
    assert await run("timeline", "status") == (0, NO_OVERRIDES, "")
    status, out, errors = await run("timeline", "ttl", "900", "--for", "1m")
    assert (status, out) == (2, "")
    (line,) = errors.splitlines()
    assert line.startswith("support-service: The database at 127.0.0.1")
    assert "(SUPPORT_DATABASE_URL) can't be used: " in line
    assert "accepts no changes" in line
