"""The faults of the drill cover the table of alerts; short.py and `make drill` run them."""

import asyncio
from datetime import date, timedelta
from math import ceil
from types import SimpleNamespace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from observability.alert_lists import DRILL_FAULTS, FAULT_COUNT_PATTERN, README
from observability.signals import ALERTS

from tests.e2e.drill import verdict
from tests.e2e.drill.__main__ import A_DAY, in_deployments, of_the_day, since, summary, table_row
from tests.e2e.drill.faults import FAULTS
from tests.e2e.drill.run import Outcome
from tests.e2e.drill.runbook_checks import commands_of, page_of

LAST_CHECK = 3  # of a page, by which the cause is known


def test_drill_covers_every_alert():
    """The slow budget alerts take hours, and the drill's traffic downloads no file: promtool tests these instead.

    The README counts the faults of the signals; a fault that is declared elsewhere would not count.
    """
    drilled = {name.partition("[")[0] for fault in FAULTS for name in fault.alerts}
    tested_by_promtool = {alert.name for alert in ALERTS if alert.name.endswith("BurnSlow")} | {"Watchdog"}
    tested_by_promtool |= {"SupportDownloadsRefused"}
    assert drilled | tested_by_promtool == {alert.name for alert in ALERTS}
    assert sum(bool(fault.alerts) for fault in FAULTS) == DRILL_FAULTS
    assert FAULT_COUNT_PATTERN.findall(README.read_text()) == [str(DRILL_FAULTS)]


def test_every_fault_has_a_check_that_tells_its_cause_and_an_action():
    """The check is on a page of an alert that the fault raises, and one of the first.

    The fault has a printed action, or a reason for none. What a person types fits the prompts of the action's block.
    """
    pages = {alert.name: alert.runbook for alert in ALERTS}
    for fault in FAULTS:
        raised = {pages[name.partition("[")[0]] for name in fault.alerts}
        assert bool(fault.causes) == bool(fault.alerts), fault.name
        assert {page_of(cause, fault) for cause in fault.causes} <= raised, fault.name
        assert all(cause.check <= LAST_CHECK for cause in fault.causes), fault.name
        assert bool(fault.alerts) == (bool(fault.actions) != bool(fault.only_repair)), fault.name
        for action in fault.actions:
            commands = commands_of(page_of(action, fault), action.name)
            assert commands, (fault.name, action.name)
            prompts = commands.count("read -rp") + ("$REPLACE" in commands)
            assert len(action.typed) + bool(action.copied) == prompts, (fault.name, action.name)


def test_daily_form_runs_every_fault_within_days():
    """Each day has a part of them, and no fault waits longer than the others."""
    days = ceil(len(FAULTS) / A_DAY)
    parts = [of_the_day(FAULTS, date(2026, 12, 1) + timedelta(day)) for day in range(days)]
    assert sorted(fault.name for part in parts for fault in part) == sorted(fault.name for fault in FAULTS)
    assert max(len(part) for part in parts) <= A_DAY


def test_a_deployment_has_faults_of_one_scenario():
    """No fault is left out, and none runs twice. A run that was interrupted continues with a fault."""
    groups = in_deployments(list(FAULTS))
    at = next(number for number, group in enumerate(groups) if number and len(group) > 1)
    assert since(groups, groups[at][1].name) == [groups[at][1:], *groups[at + 1 :]]
    assert since(groups, "no such fault") == []
    assert sorted(fault.name for group in groups for fault in group) == sorted(fault.name for fault in FAULTS)
    assert all(fault.scenario == group[0].scenario for group in groups for fault in group)


def test_table_shows_every_kind_of_result():
    """`make drill` prints a row for expected, unexpected and no alerts."""
    fault = next(each for each in FAULTS if len(each.alerts) == 1 and each.actions)
    alert = fault.alerts[0].partition("[")[0]
    actions = [action.name for action in fault.actions]
    expected = Outcome(fault, alerts={alert: 3.0}, resolved_after=1, actions=actions)
    assert table_row(expected).endswith(f"| {', '.join(actions)} | 1 evaluation | good |")
    unexpected = Outcome(fault, alerts={alert: 3.0, "Watchdog": 4.0}, unexpected={"Watchdog"})
    assert "Watchdog (!)" in table_row(unexpected)
    assert table_row(unexpected).endswith("| never | WRONG |")
    healthy = next(each for each in FAULTS if not each.alerts)
    assert table_row(Outcome(healthy)).endswith("| nothing |  | 0 |  |  |  | good |")
    assert summary([expected, unexpected]).startswith("recall 100%, precision 67%; 1 of 2 as expected;")


async def test_a_drill_says_that_it_did_not_read_the_verdict():
    """A comparison that has ended early agrees with nothing."""
    async with verdict.verdict_agrees(object()) as disagreements:
        await asyncio.sleep(0)
    assert any("not read" in each for each in disagreements)


UNREAD = {"verdict": {"level": "degraded", "problems": [{"part": "prometheus"}]}}


@pytest.mark.parametrize(
    ("status", "body", "is_healthy"),
    [(401, {"code": "token_invalid"}, True), (200, UNREAD, True), (200, UNREAD, False)],
)
async def test_a_drill_says_that_no_verdict_was_compared(monkeypatch, status, body, is_healthy):
    """Replicas that refuse the caller, do not answer or do not reach Prometheus agree with nothing."""
    monkeypatch.setattr(verdict, "EVALUATION_SECONDS", 0.0)
    asked = asyncio.Semaphore(0)

    async def answer(_):
        asked.release()
        return web.json_response(body, status=status)

    async def groups():
        return []

    application = web.Application()
    application.router.add_get("/support/oncall", answer)
    async with TestServer(application) as server:
        replicas = [
            SimpleNamespace(address=address) for address in ("http://127.0.0.1:9", f"http://127.0.0.1:{server.port}")
        ]
        deployment = SimpleNamespace(
            replicas=replicas, oncall_token="refused", monitoring=SimpleNamespace(groups=groups)
        )
        async with verdict.verdict_agrees(deployment, is_healthy=is_healthy) as disagreements:
            for _ in range(3):
                await asked.acquire()
    assert disagreements == ["no verdict was compared"]
