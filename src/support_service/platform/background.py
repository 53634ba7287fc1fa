"""Background tasks and periodic jobs that run alongside the requests."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from support_service.core.clock import Backoff

CANCEL_RETRY_INTERVAL = 0.25  # seconds
CANCEL_TIMEOUT = 1.0  # seconds; default

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """Work that is repeated: after each `interval`, in seconds. An exception is logged and skips only that run."""

    name: str  # in the log
    interval: "float | Pause"
    work: Callable[[], Awaitable[object]]
    first: float | None = None  # delay in seconds before the first run; default: `interval`

    async def run(self) -> None:
        """Do the work until cancelled."""
        pause = self.interval if self.first is None else self.first
        while True:
            await wait_for_next_run(pause)
            pause = self.interval
            try:
                await self.work()
            except Exception:
                longest = pause.longest if isinstance(pause, Pause) else pause
                log.exception("%s failed; the next attempt is in %g s", self.name, longest, extra={"job": self.name})

    async def run_with_backoff(self, backoff: Backoff, outages: tuple[type[Exception], ...]) -> None:
        """Do the work until cancelled, and back off after a failure.

        During an outage the log has one line a minute: see telemetry/logs.py.
        """
        failures, name = 0, self.name
        while True:
            await wait_for_next_run(backoff.delay(failures) if failures else self.interval)
            try:
                await self.work()
            except outages as outage:
                log.warning("%s is interrupted and is retried: %s", name, outage, exc_info=outage, extra={"job": name})
                failures += 1
            except Exception:
                log.exception("%s failed and is retried", name, extra={"job": name})
                failures += 1
            else:
                if failures:
                    log.info("%s continues", name)
                failures = 0


class Runner(AsyncExitStack):
    """Runs jobs beside the requests, and closes parts. The last that it was given ends first."""

    def run(self, *work: Job | Coroutine[Any, Any, None], cancel_timeout: float = CANCEL_TIMEOUT) -> None:
        """Run jobs and endless coroutines as background tasks, which are cancelled together at the end.

        The end raises the exception of a coroutine that failed. It abandons a task that is still running
        `cancel_timeout` seconds after the cancellation.
        """
        tasks = [asyncio.create_task(each.run() if isinstance(each, Job) else each) for each in work]
        self.push_async_callback(_end, tasks, cancel_timeout)


@asynccontextmanager
async def run_in_background(
    *work: Job | Coroutine[Any, Any, None], cancel_timeout: float = CANCEL_TIMEOUT
) -> AsyncIterator[None]:
    """Run jobs and endless coroutines while the block runs, as a Runner does."""
    async with Runner() as runner:
        runner.run(*work, cancel_timeout=cancel_timeout)
        yield


async def _end(tasks: Collection[asyncio.Task[None]], cancel_timeout: float) -> None:
    await cancel_all(tasks, cancel_timeout)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()  # raises the exception that ended the task


async def cancel_all(tasks: Collection[asyncio.Future[Any]], cancel_timeout: float = CANCEL_TIMEOUT) -> None:
    """Cancel tasks and wait up to `cancel_timeout` seconds for them; tasks that run longer are abandoned."""
    # Cancel repeatedly: a library whose own wait ends at the same moment may swallow a cancellation.
    running = {task for task in tasks if not task.done()}
    left = cancel_timeout  # a hanging database delays the end of a statement
    deadline = asyncio.get_running_loop().time() + left
    while running and left > 0:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=min(left, CANCEL_RETRY_INTERVAL))
        left = deadline - asyncio.get_running_loop().time()


class WorkSignal:
    """Tells jobs of this process that work for them may have arrived."""

    def __init__(self) -> None:
        self._subscribers: list[asyncio.Event] = []

    def subscribe(self) -> asyncio.Event:
        """Return an event that each `send` sets. It is set: there may be work from before."""
        event = asyncio.Event()
        event.set()
        self._subscribers.append(event)
        return event

    def send(self) -> None:
        for event in self._subscribers:
            event.set()


@dataclass(frozen=True, slots=True)
class Pause:
    """The pause between two runs of a job, in seconds: `longest`, or until work arrives, but `shortest` at least.

    Such a job runs as soon as work arrives. Under load it takes what has arrived since its last run. It also finds work
    that no signal tells of, such as that of another process.
    """

    shortest: float
    longest: float
    work_arrived: asyncio.Event

    async def wait(self) -> None:
        """Wait until the next run."""
        await asyncio.sleep(self.shortest)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.longest - self.shortest):
                await self.work_arrived.wait()
        self.work_arrived.clear()  # before the run: what arrives during it leads to another one


async def wait_for_next_run(pause: float | Pause) -> None:
    """Wait for a number of seconds, or until the end of a pause."""
    if isinstance(pause, Pause):
        await pause.wait()
    else:
        await asyncio.sleep(pause)
