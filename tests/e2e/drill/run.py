"""Run faults: inject each, see which alerts are sent, repair it, and see that they are resolved."""

import asyncio
import tempfile
import traceback
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from observability.drill import EVALUATION_SECONDS, DrillFault, DrillScenario
from observability.signals import ALERTS

from tests.e2e.drill.deployment import SETTLE, Deployment
from tests.e2e.drill.runbook_checks import carry_out, page_of, run_checks, wrong_outputs
from tests.e2e.drill.verdict import verdict_agrees
from tests.support.calls import eventually

ROOT = Path(__file__).parents[3]
SENT_WITHIN = 80 * EVALUATION_SECONDS  # the growth of the backlog is that of an hour
LINGER = 8 * EVALUATION_SECONDS  # since the fault began; by then alerts on its consequences would be sent too
HEALTHY_FOR = 60 * EVALUATION_SECONDS
LONGEST = 900.0  # seconds; a fault that takes longer has failed
CHANNEL = "#data-ops"
BY_NAME = {alert.name: alert for alert in ALERTS}


@dataclass
class Outcome:
    fault: DrillFault
    alerts: dict[str, float] = field(default_factory=dict)  # seconds until Slack got it, by alert
    missing: set[str] = field(default_factory=set)
    unexpected: set[str] = field(default_factory=set)
    resolved_after: int | None = None  # evaluations after the action, while the fault lasts, or else after the repair
    actions: list[str] = field(default_factory=list)  # of the pages, that were carried out
    pages: int = 0  # alerts that the pager received
    unknown_causes: list[str] = field(default_factory=list)  # what checks printed instead of a cause
    errors: list[str] = field(default_factory=list)
    recovered: bool = True  # whether nothing fires after the repair, so that the deployment can be used again

    @property
    def good(self) -> bool:
        """Whether exactly the expected alerts were sent to the right channel, were understood, and resolved in time."""
        resolved = self.resolved_after is not None and self.resolved_after <= self.fault.ended_within
        wrong = self.missing or self.unexpected or self.unknown_causes or self.errors
        return not wrong and (resolved or not self.fault.alerts)


async def run_faults(faults: Sequence[DrillFault]) -> AsyncIterator[Outcome]:
    """Run faults of one scenario one after another, in one deployment for as long as it recovers from them."""
    remaining = deque(faults)
    while remaining:
        fault = remaining[0]
        try:
            async with _deployed(fault.scenario) as deployment:
                while remaining:
                    fault, following = remaining[0], remaining[1] if len(remaining) > 1 else None
                    async with asyncio.timeout(LONGEST):
                        outcome = await _run_monitored(deployment, fault, following)
                    remaining.popleft()
                    yield outcome
                    if not outcome.recovered:
                        break
        except Exception:  # noqa: BLE001 - a fault that can't be injected or repaired must not end the others
            traceback.print_exc()
            if remaining and remaining[0] is fault:
                yield Outcome(remaining.popleft(), errors=["the drill itself failed"])


@asynccontextmanager
async def _deployed(scenario: DrillScenario) -> AsyncIterator[Deployment]:
    with tempfile.TemporaryDirectory(prefix="support-drill-") as folder:
        async with Deployment(Path(folder), scenario).open() as deployment:
            yield deployment


async def _run_monitored(deployment: Deployment, fault: DrillFault, following: DrillFault | None) -> Outcome:
    if fault.before is not None:
        await fault.before(deployment)
    async with deployment.monitored():
        return await _run_fault(deployment, fault, following)


async def _run_fault(deployment: Deployment, fault: DrillFault, following: DrillFault | None) -> Outcome:
    outcome = Outcome(fault)
    loop = asyncio.get_running_loop()
    if fault.before is None:
        await asyncio.sleep(SETTLE)
        deployment.traffic.acknowledged.clear()
    seen: set[str] = set()
    started = loop.time()
    verdict = verdict_agrees(deployment, is_healthy=not fault.alerts)
    async with verdict as disagreements, fault.inject(deployment):
        if fault.alerts:
            wanted = set(fault.alerts)

            async def all_sent() -> bool:
                seen.update(await deployment.monitoring.active())
                return {name.partition("[")[0] for name in wanted} <= _sent_alerts(deployment) and wanted <= seen

            await _wait_until(all_sent, SENT_WITHIN)
            printed = await run_checks(deployment, fault)
            outcome.unknown_causes = wrong_outputs(deployment, fault, printed)
            await asyncio.sleep(max(0.0, LINGER - (loop.time() - started)))
            if fault.actions:
                await _act(deployment, outcome, "\n".join(printed))
        else:
            await asyncio.sleep(HEALTHY_FOR)
    async with asyncio.TaskGroup() as group:
        if following is not None and following.before is None:
            group.create_task(_prepare_monitoring(deployment))
        await deployment.take_back(fault.actions)
        if fault.alerts:
            repaired_after = await _resolved(deployment, fault.ended_within)
            outcome.recovered = repaired_after is not None
            if not fault.actions:
                outcome.resolved_after = repaired_after
            elif not outcome.recovered:
                outcome.errors.append("an alert fires after the repair")
        await asyncio.sleep(2 * EVALUATION_SECONDS)  # alerts that another one inhibited would be sent now
    outcome.errors += await deployment.lost() + disagreements
    _evaluate(deployment, outcome, seen, started)
    return outcome


async def _prepare_monitoring(deployment: Deployment) -> None:
    """Start the next fault's Prometheus once the probe succeeds again, and nothing is busy with the repair any more."""
    await asyncio.sleep(2 * EVALUATION_SECONDS)
    await _wait_until(deployment.monitoring.is_good, SENT_WITHIN)
    await deployment.prepare_monitoring()


def _sent_alerts(deployment: Deployment) -> set[str]:
    return {post.alert for post in deployment.receiver.slack if post.firing}


def _evaluate(deployment: Deployment, outcome: Outcome, seen: set[str], started: float) -> None:
    expected = {name.partition("[")[0] for name in outcome.fault.alerts}
    sent = _sent_alerts(deployment)
    outcome.missing = (expected - sent) | (set(outcome.fault.alerts) - seen)
    outcome.unexpected = sent - expected
    paged, critical = set(deployment.receiver.paged), {name for name in sent if BY_NAME[name].severity == "critical"}
    outcome.pages = len(paged)
    outcome.errors += [f"{name} and the pager disagree" for name in sorted(paged ^ critical)]
    for post in deployment.receiver.slack:
        if not post.firing:
            continue
        outcome.alerts.setdefault(post.alert, post.at - started)
        if post.at < started:
            outcome.errors.append(f"{post.alert} before the fault was injected")
        if post.channel != CHANNEL:
            outcome.errors.append(f"{post.alert} in {post.channel}")
        if post.runbook not in post.text or post.runbook.rpartition("/")[2] != BY_NAME[post.alert].runbook:
            outcome.errors.append(f"{post.alert} without its runbook in the text")
    if not deployment.receiver.beats:
        outcome.errors.append("the watchdog is silent")


async def _act(deployment: Deployment, outcome: Outcome, printed: str) -> None:
    """Carry out the actions of the pages while the fault lasts, and wait until its alerts are resolved."""
    fault = outcome.fault
    for action in fault.actions:
        problem = await carry_out(deployment, action, page_of(action, fault), printed)
        if problem:
            outcome.errors.append(problem)
            return
        outcome.actions.append(action.name)
    left = {alert for action in fault.actions for alert in action.leaves}
    outcome.resolved_after = await _resolved(deployment, fault.ended_within, left)
    if outcome.resolved_after is None:
        firing = set().union(*(group.firing for group in await deployment.monitoring.groups()))
        outcome.errors.append(f"after {', '.join(outcome.actions)}: {', '.join(sorted(firing))} fires")


async def _resolved(deployment: Deployment, within: int, except_for: Collection[str] = ()) -> int | None:
    """Return the number of evaluations until no alert fires, by the slowest group; None if it takes far too many."""
    before = {group.name: group.evaluated for group in await deployment.monitoring.groups()}
    evaluations: dict[str, set[str]] = {name: set() for name in before}
    fired_until = dict.fromkeys(before, 0)

    async def quiet() -> bool:
        groups = await deployment.monitoring.groups()
        for group in groups:
            if group.evaluated != before[group.name]:
                evaluations[group.name].add(group.evaluated)
            if group.firing.difference(except_for):
                fired_until[group.name] = len(evaluations[group.name])
        return not any(group.firing.difference(except_for) for group in groups)

    quiet_in_time = await _wait_until(quiet, 4 * within * EVALUATION_SECONDS)
    return max(fired_until.values()) + 1 if quiet_in_time else None


async def _wait_until(condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Wait until a condition holds; return whether it did in time."""
    try:
        return await eventually(condition, seconds)
    except AssertionError:
        return False
