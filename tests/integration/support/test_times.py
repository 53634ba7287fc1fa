"""What a test costs."""

import asyncio
import subprocess
import sys
import time

import pytest

from tests.support.times import SLEEPS, Usage, count_sleeps, counted


@pytest.mark.usefixtures("processes")
def test_cost_of_a_test_includes_its_processes():
    """Also while they run: a server ends long after its test."""
    before = Usage.now()
    command = [sys.executable, "-c", "for _ in range(20_000_000): pass\nprint(flush=True)\ninput()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        used = before.until_now()
        process.communicate(b"\n")
    assert used.cpu > 0.1
    assert before.until_now().cpu >= used.cpu


async def test_cost_of_a_test_includes_what_its_sleeps_ask_for(monkeypatch):
    """Not polls, sleeps of the service and a sleep that is cancelled. Here each sleep takes twice as long as asked."""
    now, measured = [100.0], {}

    def block(delay):
        now[0] += 2 * delay

    async def sleep(delay, _result):
        if delay == 7200:
            raise asyncio.CancelledError
        block(delay)

    fakes = {
        "_sleep": sleep,
        "_block": block,
        "measured_here": measured,
        "_slept_until": [0.0],
        "asyncio.sleep": None,
        "time.sleep": None,
    }
    for name, fake in (fakes | {"time.perf_counter": lambda: now[0]}).items():
        monkeypatch.setattr(f"tests.support.times.{name}", fake)
    count_sleeps()
    await asyncio.sleep(3)  # of the clock above, as are the others
    await asyncio.sleep(0.1)  # the same
    exec(compile("time.sleep(9)", "/src/support_service/service.py", "exec"))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(7200)  # the same
    with counted(2):
        time.sleep(1)  # noqa: ASYNC251 - at the same time
    ((test, (_, slept, _)),) = measured[SLEEPS].items()
    assert (test.rpartition("::")[2], slept) == ("test_cost_of_a_test_includes_what_its_sleeps_ask_for", 5)
