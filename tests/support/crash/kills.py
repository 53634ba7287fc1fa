"""Points at which tests kill the service, and how many."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager

import aiohttp

from support_service.platform.database.shared import create_database
from tests.support.calls import eventually
from tests.support.crash import victim
from tests.support.forks import context
from tests.support.servers import free_port

KILLS = int(os.environ.get("CRASH_KILLS", "0"))  # per scenario; 0 is the short form
RUN_TIMEOUT = 120.0  # seconds for one run, on a busy machine


def print_figures(line):
    sys.stdout.write(f"\n{line}\n")


def spread(executed, number):
    """Return this number of points, spread evenly over all steps in order of execution, and over loops."""
    return [stretch[0] for stretch in stretches(executed, number)]


def stretches(executed, number):
    """Divide all points into this number of parts, whose first points are spread evenly."""
    points = [(line, 1) for line in executed] + [
        (line, (times + 1) // 2) for line, times in executed.items() if times > 2
    ]
    number = min(number, len(points))
    return [points[index * len(points) // number : (index + 1) * len(points) // number] for index in range(number)]


async def run_victim(command, variables, folder, point=None, record=None, watched=(), *, status=0, is_done=None):
    """Run a command that is killed at a point, if it gets there; return its exit status, otherwise `status`.

    A service is stopped once it is killed or `is_done`.
    """
    process = context.Process(target=victim.run, args=(command, variables, folder, point, record, watched))
    process.start()
    async with asyncio.timeout(RUN_TIMEOUT):
        if is_done is not None:

            async def is_over():
                return not process.is_alive() or await is_done()

            await eventually(is_over, RUN_TIMEOUT)
            process.terminate()
        await asyncio.to_thread(process.join)
    assert process.exitcode in (status, -signal.SIGKILL), (point, (folder / "victim.log").read_text()[-3000:])
    return process.exitcode


@asynccontextmanager
async def opened(url):
    database = create_database(url)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def variables_of_service(folder, url):
    """Return the variables of a service with files in a folder. A traced process is slow, and sheds no load."""
    variables = {"SUPPORT_DATABASE_URL": url, "SUPPORT_ATTACHMENT_DIR": str(folder / "files")}
    return variables | {"SUPPORT_PORT": str(free_port()), "SUPPORT_SHED_LAG": "0"}


@asynccontextmanager
async def serving(folder, url, point=None, record=None, watched=()):
    """Run a service for the length of a block; yield a session of its clients. It is killed at a point, if given."""
    variables = variables_of_service(folder, url)
    process = context.Process(target=victim.run, args=(["serve"], variables, folder, point, record, watched))
    process.start()
    address = f"http://127.0.0.1:{variables['SUPPORT_PORT']}"
    async with asyncio.timeout(RUN_TIMEOUT), aiohttp.ClientSession(address) as session:

        async def answers_or_ended():
            try:
                async with session.get("/readyz"):
                    return True
            except aiohttp.ClientConnectionError:
                return not process.is_alive()

        await eventually(answers_or_ended, RUN_TIMEOUT)
        yield session
        if point is None:
            os.kill(process.pid, signal.SIGTERM)
        await asyncio.to_thread(process.join)
    log = (folder / "victim.log").read_text()[-3000:]
    assert process.exitcode == (0 if point is None else -signal.SIGKILL), (point, log)


async def kill_at_each(run, number, folder):
    """Run once to the end, and kill other runs at this number of its lines; return how many, and print it."""
    record = folder / "points.json"
    await run(record=record)
    executed = json.loads(record.read_text())
    points = spread(executed, number)
    killed = [point for point in points if await run(point)]
    print_figures(f"{len(killed)} kills at {len(points)} of {len(executed)} lines")
    assert len(killed) >= len(points) * 0.9, points
