"""Turns for expensive work: a caller waits for the turns of others, not for all that one of them asks for."""

import asyncio

import pytest

from support_service.core.errors import RateLimited
from support_service.guard.fair_turns import FairTurns, TurnLimits


class Work:
    """Work that callers do in turns; each piece goes on until it is ended."""

    def __init__(self, **limits):
        self.turns = FairTurns(TurnLimits(**{"max_wait": 3600.0} | limits))
        self.begun = []  # the callers, in the order of their turns
        self._ends = []
        self.tasks = []

    async def ask(self, caller, times=1):
        self.tasks += [asyncio.create_task(self._work(caller)) for _ in range(times)]
        await self.settle()

    async def end(self):
        self._ends.pop(0).set()
        await self.settle()

    async def settle(self):
        for _ in range(5):
            await asyncio.sleep(0)

    @property
    def running(self):
        return len(self._ends)

    async def _work(self, caller):
        async with self.turns.occupy(caller):
            self.begun.append(caller)
            end = asyncio.Event()
            self._ends.append(end)
            await end.wait()


async def test_a_caller_has_its_bound_while_turns_are_free():
    """Its other work waits, and a second caller begins at once. Callers wait once all turns are in use."""
    work = Work(total=4, per_caller=2)
    await work.ask("lan", 10)
    assert work.begun == ["lan", "lan"]
    await work.ask("ann", 2)
    await work.ask("late")
    assert (work.begun, work.running) == (["lan", "lan", "ann", "ann"], 4)
    await work.end()
    assert work.running == 4


async def test_waiting_callers_are_served_in_turns():
    """A caller waits for one piece of work of each other caller, whatever each of them has asked for."""
    work = Work(total=1, per_caller=1)
    await work.ask("lan", 50)
    await work.ask("ann", 50)
    await work.ask("late")
    for _ in range(6):
        await work.end()
    assert work.begun == ["lan", "lan", "ann", "late", "lan", "ann", "lan"]


async def test_work_that_is_cancelled_while_it_waits_gives_up_its_place():
    """Also in the moment in which its turn comes. No turn is lost."""
    work = Work(total=1, per_caller=1)
    await work.ask("lan", 2)
    await work.ask("ann", 2)
    work.tasks[2].cancel()
    await work.settle()
    work.tasks[0].cancel()  # its turn goes to the second piece, which is cancelled too
    await asyncio.sleep(0)
    work.tasks[1].cancel()
    await work.settle()
    assert work.begun == ["lan", "ann"]
    assert not work.turns._waiting  # noqa: SLF001 - memory that nothing shows


async def test_work_whose_turn_does_not_come_is_refused():
    """The error says so with a code of its own, and when to try again."""
    work = Work(total=4, per_caller=1, max_wait=0.0)
    await work.ask("lan")
    with pytest.raises(RateLimited, match="take too long") as refusal:
        async with work.turns.occupy("lan"):
            pass
    assert (refusal.value.code, refusal.value.retry_after) == ("searches_waiting", 2)
    await work.end()
    async with work.turns.occupy("lan"):
        pass
