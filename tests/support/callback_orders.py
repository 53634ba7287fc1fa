"""Deterministic races: an event loop runs ready callbacks in an order that a seed chooses, by a clock of its own.

A scenario is a coroutine function of an order. It runs the parts that decide, and asserts what they promise. `explore`
runs it in many different orders. A failing order names its seed, and `RACE_SEED=…` runs that order alone.

Callbacks that one callback has scheduled keep their order, as asyncio promises. Between the callbacks of different ones
the seed decides, so that each answer, thread and cancellation comes at any moment. No time passes while a callback is
ready, unless the scenario asks for stalls of the machine.
"""

import asyncio
import heapq
import inspect
import os
import random
import sys
import textwrap
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

ORDERS = int(os.environ.get("RACE_ORDERS", "1000"))  # different orders of each scenario
ORDERS_WITH_BUG = 10_000  # of a scenario with a planted bug, most of which are found in the first orders
SEED = os.environ.get("RACE_SEED")
STARTED_AT = 1_700_000_000.0  # what `time.time` says at the start of each order
MAX_STEPS = 50_000  # of one order
SHOWN_STEPS = 30  # the last ones of a failing order

T = TypeVar("T")
Scenario = Callable[["CallbackOrder"], Coroutine[Any, Any, None]]


class WrongOrder(AssertionError):
    """An order in which a scenario fails; its seed repeats it."""

    def __init__(
        self, seed: int, order: "CallbackOrder", failure: Exception, repeat: tuple["CallbackOrder", Exception | None]
    ) -> None:
        logged, again = repeat
        self.is_repeated = (_name(again), logged.choices) == (_name(failure), order.choices)
        lines = [f"RACE_SEED={seed} repeats this order: {_name(failure)}"]
        lines += ["Its last steps:", *logged.steps[-SHOWN_STEPS:]]
        if not self.is_repeated:
            lines.append(f"A repeat ended otherwise, so something decides besides the order: {_name(again)}")
        super().__init__("\n".join(lines))


class CallbackOrder(asyncio.AbstractEventLoop):
    """An event loop that runs one order of callbacks, and chooses what else a scenario leaves to chance.

    With `stalls`, each step may find with that probability that the time of the next timer has come: the machine was
    busy with something else.
    """

    def __init__(self, seed: int, *, stalls: float = 0.0, is_logged: bool = False) -> None:
        self.seed = seed
        self.choices: list[int] = []  # identify the order
        self.steps: list[str] = []
        self._random = random.Random(seed).random
        self._stalls = stalls
        self._is_logged = is_logged
        self._now = 0.0
        self._tasks: list[asyncio.Task[Any]] = []
        self._queues: list[deque[asyncio.Handle]] = []  # the callbacks that each callback has scheduled
        self._scheduled: deque[asyncio.Handle] = deque()  # by the running callback
        self._timers: list[asyncio.TimerHandle] = []
        self._failures: list[BaseException] = []

    # What scenarios use.

    def number(self, below: int) -> int:
        """Choose a number from 0."""
        chosen = int(self._random() * below)
        self.choices.append(chosen)
        return chosen

    def pick(self, options: Sequence[T]) -> T:
        return options[self.number(len(options))]

    def happens(self, *, one_in: int) -> bool:
        return self.number(one_in) == 0

    async def pause(self, *, most: int = 1) -> None:
        """Let others go on, as the sender of a request does; with `most`, up to that many times."""
        for _ in range(most if most == 1 else self.number(most + 1)):
            await asyncio.sleep(0)

    async def cancel_some(
        self, tasks: Sequence[asyncio.Task[Any]], *, most: int = 2, pauses: Sequence[float] = (0,)
    ) -> None:
        """Cancel up to `most` tasks, each at some moment."""
        for _ in range(self.number(most + 1)):
            await asyncio.sleep(self.pick(pauses))
            await self.pause(most=5)
            self.pick(tasks).cancel()

    async def ends(self, tasks: Sequence[asyncio.Task[Any]], *expected: type[Exception]) -> list[Any]:
        """Return how tasks end. Raises what one raises, unless it is expected; a cancellation always is."""
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, expected):
                raise end
        return ends

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end, then cancel what it has left.

        Raises what the coroutine or a callback raises, and what any other task has raised if no code retrieved it.
        """
        asyncio._set_running_loop(self)
        try:
            main = self.create_task(work)
            self._run_until_done(main)
        finally:
            left = [task for task in self._tasks if not task.done()]
            for task in left:
                task.cancel()
            for task in left:
                self._run_until_done(task)
            asyncio._set_running_loop(None)
        main.result()
        for failure in (*self._failures, *self._unseen_failures()):
            raise failure

    def _unseen_failures(self) -> Iterator[BaseException]:
        """Yield exceptions of tasks that no code has retrieved. A task reports them at its deletion: too late."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and task._log_traceback:
                yield task.exception()

    def _run_until_done(self, task: asyncio.Task[None]) -> None:
        for _ in range(MAX_STEPS):
            if task.done():
                return
            self._step()
        raise AssertionError(f"an order does not end within {MAX_STEPS} steps")

    def _step(self) -> None:
        queues = self._queues
        if self._scheduled:
            queues.append(self._scheduled)
            self._scheduled = deque()
        if not queues or (self._stalls and self._timers and self._random() < self._stalls):
            self._advance()
        number = self.number(len(queues)) if len(queues) > 1 else 0
        queue = queues[number]
        handle = queue.popleft()
        if not queue:
            queues[number] = queues[-1]
            queues.pop()
        if not handle.cancelled():
            if self._is_logged:
                self.steps.append(f"{self._now:8.3f} {_describe(handle)}")
            handle._run()

    def _advance(self) -> None:
        """Move the clock to the next timer, and make all timers of that moment ready."""
        while self._timers and self._timers[0].cancelled():
            heapq.heappop(self._timers)
        if self._timers:
            self.choices.append(-1)
            self._now = max(self._now, self._timers[0].when())
        while self._timers and self._timers[0].when() <= self._now:
            timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                self._queues.append(deque([timer]))
        if not self._queues:
            raise AssertionError("every task waits, and nothing will end that")

    # What asyncio uses.

    def time(self) -> float:
        return self._now

    def call_soon(self, callback, *args, context=None):
        handle = asyncio.Handle(callback, args, self, context)
        self._scheduled.append(handle)
        return handle

    def call_later(self, delay, callback, *args, context=None):
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(self, when, callback, *args, context=None):
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, timer)
        return timer

    def create_future(self):
        return asyncio.Future(loop=self)

    def create_task(self, coro, *, name=None, context=None):
        task = asyncio.Task(coro, loop=self, name=name or f"task {len(self._tasks) + 1}", context=context)
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor, func, *args):  # noqa: ARG002 - no thread runs it
        """Run a function at one moment of the order, and deliver its result at a later one."""
        result = self.create_future()

        def deliver(value, failure):
            if result.cancelled():
                return
            if failure is None:
                result.set_result(value)
            else:
                result.set_exception(failure)

        def work():
            try:
                self._schedule_apart(deliver, func(*args), None)
            except Exception as failure:  # noqa: BLE001 - the future raises it
                self._schedule_apart(deliver, None, failure)

        self._schedule_apart(work)
        return result

    def _schedule_apart(self, callback, *args):
        """Schedule a callback whose order is not tied to what the running callback schedules."""
        self._queues.append(deque([asyncio.Handle(callback, args, self)]))

    def get_debug(self):
        return False

    def is_running(self):
        return True

    def is_closed(self):
        return False

    def call_exception_handler(self, context):
        failure = context.get("exception")
        self._failures.append(failure or AssertionError(context["message"]))

    def _timer_handle_cancelled(self, handle):
        """Do nothing: a cancelled timer is skipped."""


def explore(scenario: Scenario, *, orders: int = ORDERS, stalls: float = 0.0) -> None:
    """Run a scenario in that many different orders, or in that of the variable RACE_SEED. Raises WrongOrder."""
    seen: set[int] = set()
    seeds = [int(SEED)] if SEED else range(4 * orders)
    with clocks_of_orders() as begin:
        for seed in seeds:
            order, failure = run_order(scenario, begin(CallbackOrder(seed, stalls=stalls)))
            if failure is not None:
                again = run_order(scenario, begin(CallbackOrder(seed, stalls=stalls, is_logged=True)))
                raise WrongOrder(seed, order, failure, again) from failure
            seen.add(hash(tuple(order.choices)))
            if len(seen) == orders:
                return
    assert SEED, f"{len(seen)} different orders in {len(seeds)} runs: the scenario leaves too little open"


@contextmanager
def clocks_of_orders() -> Iterator[Callable[[CallbackOrder], CallbackOrder]]:
    """Yield a function that gives the clocks and the jitter the values of an order that begins."""
    present = CallbackOrder(0)

    def begin(order: CallbackOrder) -> CallbackOrder:
        nonlocal present
        present = order
        random.seed(order.seed)
        return order

    before = random.getstate()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: present.time())  # noqa: PLW0108 - the present order changes
        patch.setattr(time, "time", lambda: STARTED_AT + present.time())
        try:
            yield begin
        finally:
            random.setstate(before)


def run_order(scenario: Scenario, order: CallbackOrder) -> tuple[CallbackOrder, Exception | None]:
    """Run a scenario in one order; return the order, and how the scenario failed."""
    try:
        order.run(scenario(order))
    except Exception as failure:  # noqa: BLE001 - of any kind
        return order, failure
    return order, None


def expect_wrong_order(scenario: Scenario, failure: str, *, stalls: float = 0.0) -> None:
    """Fail unless an order fails with a message that matches `failure`, and its seed repeats it."""
    with pytest.raises(WrongOrder, match=failure) as found:
        explore(scenario, orders=ORDERS_WITH_BUG, stalls=stalls)
    assert found.value.is_repeated, str(found.value)


def with_bug(cls: type[T], method: str, line: str, instead: str) -> type[T]:
    """Return a class with a part of a line of one method replaced: a bug that an exploration must find."""
    source = textwrap.dedent(inspect.getsource(getattr(cls, method)))
    assert source.count(line) == 1, f"{cls.__name__}.{method} has no single {line!r}"
    names: dict[str, Any] = {}
    exec(source.replace(line, instead), vars(sys.modules[cls.__module__]), names)
    return type(f"{cls.__name__}With{method.strip('_').title().replace('_', '')}Bug", (cls,), names)


def _name(failure: Exception | None) -> str:
    """Return a failure without what pytest adds to it, such as the addresses of objects."""
    return f"{type(failure).__name__}: {failure}".partition("\n")[0]


def _describe(handle: asyncio.Handle) -> str:
    task = getattr(handle._callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return getattr(handle._callback, "__qualname__", repr(handle._callback))
    frame = task.get_stack(limit=1)
    place = f" at {frame[0].f_code.co_filename.rpartition('/')[2]}:{frame[0].f_lineno}" if frame else ""
    return f"{task.get_name()} {task.get_coro().__qualname__}{place}"
