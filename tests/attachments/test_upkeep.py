"""What the service does by itself with its files, and when."""

import asyncio

from support_service.settings import Settings
from support_service.upkeep import FIRST_SWEEP, SWEEP_EVERY, Upkeep


async def test_the_first_sweep_comes_minutes_after_the_start(world, environment, monkeypatch):
    """A process that lives for less than an hour sweeps too, and replicas that start together do not do so at once."""
    pauses, resume = [], asyncio.sleep

    async def sleep(seconds):
        pauses.append(seconds)
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    kept = Upkeep(Settings.load(environment), world.database, world.storages, world.instruments)
    for _ in range(10):
        async with kept.by_itself():
            await resume(0)
    soonest, latest = FIRST_SWEEP
    first = [seconds for seconds in pauses if soonest <= seconds <= latest]
    assert latest < SWEEP_EVERY
    assert SWEEP_EVERY not in pauses
    assert len(first) == len(set(first)) == 10
