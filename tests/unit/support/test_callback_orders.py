"""The exploration of orders: what a seed decides, how time passes, and what counts as a failure."""

import asyncio
import time

import pytest

from tests.support.callback_orders import STARTED_AT, CallbackOrder, WrongOrder, expect_wrong_order, explore
from tests.support.each import each_row


async def lose_an_update(order):
    """Add one to a number three times, with a wait between the read and the write."""
    number = 0

    async def add():
        nonlocal number
        before = number
        await order.pause(most=3)
        number = before + 1

    await asyncio.gather(add(), add(), add())
    assert number == 3, "an update is lost"


def test_exploration_finds_a_lost_update_and_repeats_it():
    """The failure names its seed, and shows the last steps before it."""
    expect_wrong_order(lose_an_update, "RACE_SEED=0 .*an update is lost")
    with pytest.raises(WrongOrder, match=r"task 2 lose_an_update.<locals>.add at test_callback_orders.py"):
        explore(lose_an_update)
    with pytest.raises(AssertionError, match="1 different orders"):  # looked at often, it proves nothing
        explore(lambda _order: asyncio.sleep(1), orders=5)  # s of its own clock


def test_seed_decides_the_order():
    """The same seed gives the same one, and others give others."""

    def order_of(seed):
        finished = []

        async def scenario(order):
            async def finish(number):
                await order.pause()
                finished.append(number)

            await asyncio.gather(*map(finish, range(4)))

        order = CallbackOrder(seed)
        order.run(scenario(order))
        return tuple(finished)

    assert [order_of(seed) for seed in range(100)] == [order_of(seed) for seed in range(100)]
    assert len({order_of(seed) for seed in range(2000)}) == 24


def test_time_passes_only_while_everybody_waits():
    """Hours take no time, and the clocks of the process agree."""

    async def scenario(order):
        assert time.time() == STARTED_AT
        await order.pause()
        assert order.time() == 0
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(7200), order.pick((3600, 1800)))  # s of its own clock
        assert time.monotonic() == order.time() >= 1800

    explore(scenario, orders=2)


def test_stalls_let_timers_come_first():
    """With them, a timer may end although its task has not had a turn."""

    async def scenario(order):
        before = order.time()
        async with asyncio.timeout(10):
            await order.pause(most=20)
        assert order.time() == before, "late"

    explore(scenario, orders=10)
    expect_wrong_order(scenario, "late|TimeoutError", stalls=0.1)


async def begin(work):
    """Begin a task whose result no code retrieves."""
    await asyncio.wait([asyncio.create_task(work)], timeout=1)


async def fail():
    raise ValueError("in a task")


async def fail_at_the_end():
    """Fail once the task is cancelled."""
    try:
        await asyncio.Event().wait()
    finally:
        raise ValueError("at the end")


@each_row(
    ("work", "failure"),
    [
        (lambda: asyncio.Event().wait(), "every task waits, and nothing will end that"),
        (lambda: asyncio.get_running_loop().run_in_executor(None, int, "x"), "ValueError: invalid literal"),
        (lambda: asyncio.sleep(0, asyncio.get_running_loop().call_soon(int, "x")), "ValueError: invalid literal"),
        (lambda: begin(fail()), "ValueError: in a task"),
        (lambda: begin(fail_at_the_end()), "ValueError: at the end"),
    ],
    ids=["deadlock", "thread", "callback", "task", "task at the end"],
)
def test_failures_of_an_order(work, failure):
    """A wait that nobody ends, and what a thread, a callback or a task raises. The scenario leaves the last task."""

    async def scenario(_order):
        await work()

    expect_wrong_order(scenario, failure)


def test_failure_of_a_task_that_somebody_asked_for_is_none_of_the_order():
    """Nor is a cancellation."""

    async def scenario(order):
        tasks = [asyncio.create_task(work) for work in (fail(), asyncio.Event().wait())]
        await order.pause(most=3)
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert isinstance(tasks[0].exception(), ValueError)
        await begin(asyncio.Event().wait())

    explore(scenario, orders=3)


def test_threads_run_at_a_moment_of_the_order():
    """Their results come later, and in any order."""
    results = set()

    async def scenario(_order):
        loop, done = asyncio.get_running_loop(), []
        jobs = [loop.run_in_executor(None, lambda number=number: number) for number in range(3)]
        for job in jobs:
            job.add_done_callback(lambda job: done.append(job.result()))
        await asyncio.gather(*jobs)
        results.add(tuple(done))

    explore(scenario, orders=200)
    assert len(results) == 6
