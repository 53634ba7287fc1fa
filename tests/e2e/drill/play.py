"""Play one fault: break it, see who is told, repair it, see that it is over."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.drill import EVALUATION
from tests.e2e.drill.faults import Fault
from tests.e2e.drill.stage import SETTLE, Stage
from tests.support.calls import eventually

ROOT = Path(__file__).parents[3]
TOLD_WITHIN = 45 * EVALUATION
LINGER = 8 * EVALUATION  # until what follows from a cause would be told too
HEALTHY_FOR = 60 * EVALUATION
OVER_WITHIN = 5  # evaluations
CHANNEL = "#data-ops"


@dataclass
class Outcome:
    """How a play went."""

    fault: Fault
    told: dict[str, float] = field(default_factory=dict)  # seconds until Slack had it, by alert
    missing: set[str] = field(default_factory=set)
    surplus: set[str] = field(default_factory=set)
    over_after: int | None = None  # evaluations after the repair
    runbooks: dict[str, str] = field(default_factory=dict)  # by alert, as Slack links it
    wrong: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Exactly what was to be told was told, rightly addressed, and it was over in time."""
        over = not self.fault.alerts or (self.over_after is not None and self.over_after <= OVER_WITHIN)
        return not (self.missing or self.surplus or self.wrong) and over


async def play(fault: Fault) -> Outcome:
    """Play a fault on a stage of its own."""
    with tempfile.TemporaryDirectory(prefix="support-drill-") as folder:
        stage = Stage(Path(folder), fault.scene)
        async with stage.open(fault.before):
            return await _play(stage, fault)


async def _play(stage: Stage, fault: Fault) -> Outcome:
    outcome = Outcome(fault)
    loop = asyncio.get_running_loop()
    if fault.before is None:
        await asyncio.sleep(SETTLE)
    seen: set[str] = set()
    async with fault.broken(stage):
        began = loop.time()
        if fault.alerts:
            wanted = set(fault.alerts)

            async def told() -> bool:
                seen.update(await stage.monitoring.active())
                return {name.partition("[")[0] for name in wanted} <= _told(stage) and wanted <= seen

            await _until(told, TOLD_WITHIN)
            await asyncio.sleep(max(0.0, LINGER - (loop.time() - began)))
        else:
            await asyncio.sleep(HEALTHY_FOR)
    if fault.alerts:
        outcome.over_after = await _over(stage)
    await asyncio.sleep(2 * EVALUATION)  # what a cause held back would be told now
    _judge(stage, outcome, seen, began)
    return outcome


def _told(stage: Stage) -> set[str]:
    return {post.alert for post in stage.receiver.slack if post.firing}


def _judge(stage: Stage, outcome: Outcome, seen: set[str], began: float) -> None:
    expected = {name.partition("[")[0] for name in outcome.fault.alerts}
    told = _told(stage)
    outcome.missing = (expected - told) | (set(outcome.fault.alerts) - seen)
    outcome.surplus = told - expected
    for post in stage.receiver.slack:
        if not post.firing:
            continue
        outcome.told.setdefault(post.alert, post.at - began)
        outcome.runbooks[post.alert] = post.runbook.rpartition("/")[2]
        if post.at < began:
            outcome.wrong.append(f"{post.alert} before anything was broken")
        if post.channel != CHANNEL:
            outcome.wrong.append(f"{post.alert} in {post.channel}")
        if post.runbook not in post.text:
            outcome.wrong.append(f"{post.alert} without its runbook in the text")
    if not stage.receiver.beats:
        outcome.wrong.append("the watchdog is silent")


async def _over(stage: Stage) -> int | None:
    """How many evaluations it takes until nothing fires, by the slowest group; None where it takes far too many."""
    before = {group.name: group.evaluated for group in await stage.monitoring.groups()}
    evaluations: dict[str, set[str]] = {name: set() for name in before}
    fired_until = dict.fromkeys(before, 0)

    async def quiet() -> bool:
        groups = await stage.monitoring.groups()
        for group in groups:
            if group.evaluated != before[group.name]:
                evaluations[group.name].add(group.evaluated)
            if group.firing:
                fired_until[group.name] = len(evaluations[group.name])
        return not any(group.firing for group in groups)

    over = await _until(quiet, 4 * OVER_WITHIN * EVALUATION)
    return max(fired_until.values()) + 1 if over else None


async def _until(condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Wait until a condition holds; says whether it did in time."""
    try:
        return await eventually(condition, seconds)
    except AssertionError:
        return False
