"""Background work ends with its block, and does not block or hide a cancellation."""

import asyncio
from types import SimpleNamespace

import pytest

from support_service.platform.background import (
    CANCEL_RETRY_INTERVAL,
    Job,
    Pause,
    WorkSignal,
    cancel_all,
    run_in_background,
)
from tests.support.calls import eventually


async def test_task_that_ignores_its_cancellation_is_abandoned():
    """A task that hangs while it ends is not cancelled again after the cancel timeout, and its caller goes on."""
    release, cancelled = asyncio.Event(), []

    async def work():
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                cancelled.append(True)

    async with run_in_background(work(), cancel_timeout=CANCEL_RETRY_INTERVAL / 10):
        await asyncio.sleep(0)
    assert cancelled == [True]
    release.set()


async def test_cancellation_while_work_ends_is_not_lost():
    """Work ends with its block. A task that is cancelled while it waits for that stays cancelled."""
    ending, release = asyncio.Event(), asyncio.Event()

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await release.wait()

    async def caller():
        async with run_in_background(work()):
            await asyncio.sleep(0)

    task = asyncio.create_task(caller())
    await ending.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()


async def test_failure_of_background_work_is_raised_at_the_end_of_its_block():
    async def work():
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        async with run_in_background(work()):
            await asyncio.sleep(0)


async def test_work_that_swallows_a_cancellation_is_cancelled_again():
    """A library may swallow a cancellation that coincides with the end of its own wait."""
    swallowed = 0

    async def work():
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await cancel_all({task}, 60.0)
    assert task.cancelled()


async def test_job_can_start_with_a_different_pause(monkeypatch):
    steps = []

    async def sleep(seconds):
        steps.append(seconds)
        if len(steps) == 5:
            raise asyncio.CancelledError

    async def work():
        steps.append("work")

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await Job("Work", 3600, work, first=90).run()
    assert steps == [90, "work", 3600, "work", 3600]


@pytest.fixture
def job():
    """A job with what it did; `turn.set()` lets its next run end."""
    return SimpleNamespace(runs=0, turn=asyncio.Event())


@pytest.fixture
def work(job):
    async def run():
        job.runs += 1
        await job.turn.wait()
        job.turn.clear()

    return run


async def let_others_run():
    for _ in range(20):
        await asyncio.sleep(0)


async def test_job_runs_once_for_all_work_that_has_arrived_meanwhile(job, work):
    """At its start for what was left before, and then only for a signal; a signal during a run leads to another run."""
    signal = WorkSignal()
    async with run_in_background(Job("Work", Pause(0, 3600, signal.subscribe()), work)):
        for runs, signals in ((1, 5), (2, 1), (3, 0)):
            await eventually(lambda runs=runs: job.runs == runs)
            for _ in range(signals):
                signal.send()
            job.turn.set()
        await let_others_run()
        assert job.runs == 3
        signal.send()
        await eventually(lambda: job.runs == 4)


async def test_job_looks_for_work_that_no_signal_tells_of(job, work):
    """Another process may have left it."""
    async with run_in_background(Job("Work", Pause(0, 0.001, WorkSignal().subscribe()), work)):
        for runs in (1, 2, 3):
            await eventually(lambda runs=runs: job.runs == runs)
            job.turn.set()


async def test_job_pauses_while_work_keeps_arriving(monkeypatch):
    """So that it takes more at once under load. Each subscriber gets every signal."""
    signal, pauses, sleep = WorkSignal(), [], asyncio.sleep
    pause, other = Pause(0.1, 5.0, signal.subscribe()), signal.subscribe()
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: pauses.append(seconds) or sleep(0))
    for _ in range(3):
        other.clear()
        signal.send()
        assert other.is_set()
        await pause.wait()
    assert pauses == [0.1] * 3
