"""A process that is killed at any step loses no acknowledged file, and leaves no file without a row.

The short form kills two commands once at each kind of step. The long form kills each command CRASH_KILLS times.
"""

import asyncio
import json
import shutil
from contextlib import asynccontextmanager

import pytest

from support_service.cases.model.requests import Closing, NewCase
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.support.attachments.harness import AttachmentHarness
from tests.support.crash import victim
from tests.support.crash.kills import KILLS, RUN_TIMEOUT, opened, print_figures, stretches, variables_of_service
from tests.support.crash.scenarios import SCENARIOS, Scenario
from tests.support.forks import context

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.long]

TRIES = 3  # points of a part that are tried in turn until one is reached


class CrashHarness(AttachmentHarness):
    """A harness whose case can be closed while another is opened."""

    async def close_case(self):
        """Close the case, and open another one for later files."""
        await self.cases.close_case(SYSTEM_ORIGIN, self.case_id, Closing())
        self.case_id = (await self.cases.open_case(SYSTEM_ORIGIN, NewCase(subject="B", channel="email"))).id


class ScenarioRunner:
    def __init__(self, folder, template, s3, instruments):
        self._folder, self._template, self._s3, self._instruments = folder, template, s3, instruments
        self._number = 0
        self.unanswered = 0  # complete files whose upload or deletion was killed before its response

    async def run(self, scenario_class, point=None, *, record=None):
        """Run a scenario to its end or to a point, and check it; return whether the process was killed."""
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir()
        shutil.copy(self._template, folder / "support.db")
        bucket = self._s3.create_bucket()
        scenario = scenario_class()
        async with self._harness(folder, bucket) as harness:
            await scenario.prepare(harness)
        variables = {
            **variables_of_service(folder, f"sqlite:///{folder / 'support.db'}"),
            "SUPPORT_S3_BUCKET": bucket,
            "SUPPORT_S3_ENDPOINT": self._s3.url,
            "TESTED_CONSTANTS": json.dumps({"attachments.maintenance.offload.DELETE_GRACE": 0}),
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            **scenario.variables,
        }
        arguments = (scenario.arguments, variables, folder, point, record)
        process = context.Process(target=victim.run, args=arguments)
        process.start()
        async with asyncio.timeout(RUN_TIMEOUT):
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
        # Every row has its file, and every file its row.
        rows = {row.id: row for row in await harness.check_consistency()}
        for name, digest in scenario.acknowledged.items():
            assert rows[name].sha256 == digest
        assert not scenario.deleted & rows.keys()
        others = [row for name, row in rows.items() if name not in scenario.acknowledged]
        assert {row.sha256 for row in others} <= scenario.unacknowledged
        self.unanswered += len(others)
        if type(scenario).finish is not Scenario.finish:
            await scenario.finish(harness)
            await harness.reconcile_later()
            await harness.check_consistency()

    @asynccontextmanager
    async def _harness(self, folder, bucket):
        async with opened(f"sqlite:///{folder / 'support.db'}") as database:
            harness = CrashHarness(database, folder / "files", self._s3.url, bucket, self._instruments)
            await harness.open()
            yield harness
            await harness.local.close()


@pytest.fixture
def runner(tmp_path, sqlite_template, s3, instruments):
    return ScenarioRunner(tmp_path, sqlite_template, s3, instruments)


@pytest.mark.parametrize(
    "scenario_class",
    [each for each in SCENARIOS if KILLS or each.steps],
    ids=lambda scenario_class: scenario_class.__name__,
)
async def test_files_are_intact_after_a_kill_at_any_step(runner, scenario_class, tmp_path):
    """The command is killed before a line that stores, moves or deletes. A sweep then restores consistency."""
    points, lines = [[step] for step in scenario_class.steps], "kinds of step"
    if KILLS:
        record = tmp_path / "points.json"
        assert not await runner.run(scenario_class, record=record)
        executed = json.loads(record.read_text())
        points, lines = stretches(executed, KILLS), f"{len(executed)} lines"
    killed = []
    for stretch in points:
        for point in stretch[:TRIES]:  # some lines depend on timing: try the next point of the part
            if await runner.run(scenario_class, point):
                killed.append(point)
                break
    text = f"{len(killed)} kills at {len(points)} of {lines}"
    print_figures(f"{scenario_class.__name__}: {text}; {runner.unanswered} changes were complete without a response")
    assert len(killed) >= len(points) * 0.9, [stretch[:TRIES] for stretch in points if not {*stretch} & {*killed}]
