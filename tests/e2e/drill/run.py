"""Run one fault: inject it, see which alerts are sent, repair it, and see that they are resolved."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.drill import EVALUATION
from tests.e2e.drill.environment import SETTLE, DrillEnvironment
from tests.e2e.drill.faults import Fault
from tests.support.calls import eventually

ROOT = Path(__file__).parents[3]
SENT_WITHIN = 45 * EVALUATION
LINGER = 8 * EVALUATION  # until alerts on consequences would be sent too
HEALTHY_FOR = 60 * EVALUATION
RESOLVED_WITHIN = 5  # evaluations
CHANNEL = "#data-ops"


@dataclass
class Outcome:
    """The result of a fault."""

    fault: Fault
    alerts: dict[str, float] = field(default_factory=dict)  # seconds until Slack got it, by alert
    missing: set[str] = field(default_factory=set)
    unexpected: set[str] = field(default_factory=set)
    resolved_after: int | None = None  # evaluations after the repair
    runbooks: dict[str, str] = field(default_factory=dict)  # by alert, as linked in Slack
    errors: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether exactly the expected alerts were sent to the right channel, and were resolved in time."""
        resolved = not self.fault.alerts or (self.resolved_after is not None and self.resolved_after <= RESOLVED_WITHIN)
        return not (self.missing or self.unexpected or self.errors) and resolved


async def run_fault(fault: Fault) -> Outcome:
    """Run a fault in its own environment."""
    with tempfile.TemporaryDirectory(prefix="support-drill-") as folder:
        environment = DrillEnvironment(Path(folder), fault.scenario)
        async with environment.open(fault.before):
            return await _run_fault(environment, fault)


async def _run_fault(environment: DrillEnvironment, fault: Fault) -> Outcome:
    outcome = Outcome(fault)
    loop = asyncio.get_running_loop()
    if fault.before is None:
        await asyncio.sleep(SETTLE)
    seen: set[str] = set()
    async with fault.inject(environment):
        started = loop.time()
        if fault.alerts:
            wanted = set(fault.alerts)

            async def all_sent() -> bool:
                seen.update(await environment.monitoring.active())
                return {name.partition("[")[0] for name in wanted} <= _sent_alerts(environment) and wanted <= seen

            await _wait_until(all_sent, SENT_WITHIN)
            await asyncio.sleep(max(0.0, LINGER - (loop.time() - started)))
        else:
            await asyncio.sleep(HEALTHY_FOR)
    if fault.alerts:
        outcome.resolved_after = await _resolved(environment)
    await asyncio.sleep(2 * EVALUATION)  # alerts that another one inhibited would be sent now
    _evaluate(environment, outcome, seen, started)
    return outcome


def _sent_alerts(environment: DrillEnvironment) -> set[str]:
    return {post.alert for post in environment.receiver.slack if post.firing}


def _evaluate(environment: DrillEnvironment, outcome: Outcome, seen: set[str], started: float) -> None:
    expected = {name.partition("[")[0] for name in outcome.fault.alerts}
    sent = _sent_alerts(environment)
    outcome.missing = (expected - sent) | (set(outcome.fault.alerts) - seen)
    outcome.unexpected = sent - expected
    for post in environment.receiver.slack:
        if not post.firing:
            continue
        outcome.alerts.setdefault(post.alert, post.at - started)
        outcome.runbooks[post.alert] = post.runbook.rpartition("/")[2]
        if post.at < started:
            outcome.errors.append(f"{post.alert} before the fault was injected")
        if post.channel != CHANNEL:
            outcome.errors.append(f"{post.alert} in {post.channel}")
        if post.runbook not in post.text:
            outcome.errors.append(f"{post.alert} without its runbook in the text")
    if not environment.receiver.beats:
        outcome.errors.append("the watchdog is silent")


async def _resolved(environment: DrillEnvironment) -> int | None:
    """Return the number of evaluations until no alert fires, by the slowest group; None if it takes far too many."""
    before = {group.name: group.evaluated for group in await environment.monitoring.groups()}
    evaluations: dict[str, set[str]] = {name: set() for name in before}
    fired_until = dict.fromkeys(before, 0)

    async def quiet() -> bool:
        groups = await environment.monitoring.groups()
        for group in groups:
            if group.evaluated != before[group.name]:
                evaluations[group.name].add(group.evaluated)
            if group.firing:
                fired_until[group.name] = len(evaluations[group.name])
        return not any(group.firing for group in groups)

    quiet_in_time = await _wait_until(quiet, 4 * RESOLVED_WITHIN * EVALUATION)
    return max(fired_until.values()) + 1 if quiet_in_time else None


async def _wait_until(condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Wait until a condition holds; return whether it did in time."""
    try:
        return await eventually(condition, seconds)
    except AssertionError:
        return False
