"""A process that is killed at any step loses no file that it acknowledged, and leaves none that nobody knows.

CRASH_KILLS says how often each command is killed: a few times with every test, and often by `make crash`.
"""

import asyncio
import json
import os
import shutil
import sys

import pytest

from support_service import database as databases
from support_service.cases.requests import Closing, NewCase
from support_service.idempotency.unit_of_work import SYSTEM_CONTEXT
from tests.e2e.crash import victim
from tests.e2e.crash.scenarios import SCENARIOS, Scenario
from tests.support.attachments.harness import AttachmentHarness
from tests.support.forks import context

pytestmark = pytest.mark.usefixtures("processes")

KILLS = int(os.environ.get("CRASH_KILLS", "2"))  # of each scenario
TRIES = 3  # points that may stand for one
WITHIN = 120.0  # seconds for one run, on a busy machine


class CrashHarness(AttachmentHarness):
    """A harness whose case can be closed while another is opened."""

    async def close_case(self):
        """Close the case, and take another for what comes."""
        await self.cases.close_case(SYSTEM_CONTEXT, self.case_id, Closing())
        self.case_id = (await self.cases.open_case(SYSTEM_CONTEXT, NewCase(subject="B", channel="email"))).id


class Bench:
    """Runs scenarios, each in a folder and a bucket of its own."""

    def __init__(self, folder, template, s3, instruments):
        self._folder, self._template, self._s3, self._instruments = folder, template, s3, instruments
        self._number = 0
        self.unanswered = 0  # whole files of uploads and deletions that were killed before they could answer

    async def run(self, kind, point=None, *, record=None):
        """Run a scenario to its end, or to a point; checks what must hold, and gives whether it was killed."""
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir()
        shutil.copy(self._template, folder / "support.db")
        bucket = self._s3.create_bucket()
        scenario = kind()
        async with self._harness(folder, bucket) as harness:
            await scenario.prepare(harness)
        variables = {
            "SUPPORT_DATABASE_URL": f"sqlite:///{folder / 'support.db'}",
            "SUPPORT_ATTACHMENT_DIR": str(folder / "files"),
            "SUPPORT_S3_BUCKET": bucket,
            "SUPPORT_S3_ENDPOINT": self._s3.url,
            "SUPPORT_OFFLOAD_GRACE": "0s",
            "SUPPORT_SHED_LAG": "0",  # a traced process is late
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            **scenario.variables,
        }
        arguments = (scenario.arguments, variables, folder, point, record)
        process = context.Process(target=victim.run, args=arguments)
        process.start()
        async with asyncio.timeout(WITHIN):
            await scenario.drive(process)
        process.join()
        assert process.exitcode in (0, -9), (point, (folder / "victim.log").read_text()[-3000:])
        async with self._harness(folder, bucket) as harness:
            harness.case_id = scenario.case_id
            await self._check(scenario, harness)
        shutil.rmtree(folder)
        return process.exitcode == -9

    async def _check(self, scenario, harness):
        await harness.reconcile_later()
        rows = {row.id: row for row in await harness.check_consistency()}  # every row has its bytes, every byte its row
        for name, digest in scenario.kept.items():
            assert rows[name].sha256 == digest
        assert not scenario.gone & rows.keys()
        others = [row for name, row in rows.items() if name not in scenario.kept]
        assert {row.sha256 for row in others} <= scenario.unsure
        self.unanswered += len(others)
        if type(scenario).finish is not Scenario.finish:
            await scenario.finish(harness)
            await harness.reconcile_later()
            await harness.check_consistency()

    def _harness(self, folder, bucket):
        return _opened(folder, self._s3.url, bucket, self._instruments)


class _opened:  # noqa: N801 - reads as the verb that it is
    def __init__(self, folder, url, bucket, instruments):
        self._database = databases.connect(f"sqlite:///{folder / 'support.db'}")
        self._harness = CrashHarness(self._database, folder / "files", url, bucket, instruments)

    async def __aenter__(self):
        await self._database.open()
        await self._harness.open()
        return self._harness

    async def __aexit__(self, *_):
        await self._harness.local.close()
        await self._database.close()


@pytest.fixture
def bench(tmp_path, sqlite_template, s3, instruments):
    """Runs scenarios."""
    return Bench(tmp_path, sqlite_template, s3, instruments)


@pytest.mark.parametrize("kind", SCENARIOS, ids=lambda kind: kind.__name__)
async def test_a_kill_at_any_step(bench, kind, tmp_path):
    """Killed before any line that keeps, moves or deletes, then started again and swept: all is whole and in step."""
    record = tmp_path / "points.json"
    assert not await bench.run(kind, record=record)
    met = json.loads(record.read_text())
    points, killed = stretches(met, KILLS), []
    for stretch in points:
        for point in stretch[:TRIES]:  # a line that only time meets is not met each time: another stands for it
            if await bench.run(kind, point):
                killed.append(point)
                break
    text = f"{len(killed)} kills at {len(points)} of {len(met)} lines"
    figures(f"{kind.__name__}: {text}; {bench.unanswered} changes were cut off before their answer, and whole")
    assert len(killed) >= len(points) * 0.9, [stretch[:TRIES] for stretch in points if not {*stretch} & {*killed}]


def figures(line):
    """Show a line of figures, which `make crash` is run for."""
    sys.stdout.write(f"\n{line}\n")


def spread(met, number):
    """So many points, evenly over all steps in the order in which they were first met; one amid each loop too."""
    return [stretch[0] for stretch in stretches(met, number)]


def stretches(met, number):
    """All points in so many parts, the first points of which are spread evenly."""
    points = [(line, 1) for line in met] + [(line, (times + 1) // 2) for line, times in met.items() if times > 2]
    number = min(number, len(points))
    return [points[index * len(points) // number : (index + 1) * len(points) // number] for index in range(number)]
