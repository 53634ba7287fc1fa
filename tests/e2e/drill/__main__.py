"""Run the drill and print its results: `make drill`, or `python -m tests.e2e.drill --help`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing
from statistics import median

from observability.drill import TIME_DIVISOR, DrillFault, DrillScenario

from tests.e2e.drill.faults import FAULTS
from tests.e2e.drill.run import Outcome, run_faults

IN_ONE_DEPLOYMENT = 26  # faults
COLUMNS = ("fault", "alerts in #data-ops", "at real waits", "pages", "cause", "resolved after", "verdict")


def main() -> int:
    """Run the drill; return the exit status, 1 if an alert was missing, unexpected or late to resolve."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.drill", description=__doc__)
    parser.add_argument(
        "--only", metavar="TEXT", help="run faults whose name contains TEXT; separate several texts with commas"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="deployments that run at the same time")
    parser.add_argument("--list", action="store_true", help="print the faults and the alerts they must raise")
    arguments = parser.parse_args()
    wanted = (arguments.only or "").split(",")
    faults = [fault for fault in FAULTS if any(text in fault.name for text in wanted)]
    if arguments.list:
        for fault in faults:
            print(f"{fault.name}: {', '.join(sorted(fault.alerts)) or 'nothing'}")
        return 0
    return asyncio.run(_run(faults, arguments.jobs))


async def _run(faults: list[DrillFault], jobs: int) -> int:
    outcomes: list[Outcome] = []
    slots = asyncio.Semaphore(jobs)

    async def run_in_slot(some: Sequence[DrillFault]) -> None:
        async with slots, aclosing(run_faults(some)) as results:
            async for outcome in results:
                outcomes.append(outcome)
                print(table_row(outcome), flush=True)
                for error in (
                    *outcome.errors,
                    *outcome.unknown_causes,
                    *(f"missing {name}" for name in outcome.missing),
                ):
                    print(f"  {outcome.fault.name}: {error}", file=sys.stderr, flush=True)

    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    async with asyncio.TaskGroup() as group:
        for some in in_deployments(faults):
            group.create_task(run_in_slot(some))
    expected = sum(len(_alert_names(outcome)) for outcome in outcomes)
    right = sum(len(_alert_names(outcome) & outcome.alerts.keys()) for outcome in outcomes)
    raised = sum(len(outcome.alerts) for outcome in outcomes)
    good = sum(outcome.good for outcome in outcomes)
    paged = [outcome.pages for outcome in outcomes if outcome.pages]
    causes = [outcome for outcome in outcomes if outcome.fault.causes]
    found = [outcome for outcome in causes if not outcome.unknown_causes]
    checks = [cause.check for outcome in found for cause in outcome.fault.causes]
    minutes = [min(outcome.alerts.values()) * TIME_DIVISOR / 60 for outcome in found if outcome.alerts]
    print(
        f"\nrecall {_percentage(right, expected)}, precision {_percentage(right, raised)}; {good} of {len(outcomes)}"
        f" as expected; {sum(paged)} pages for {len(paged)} faults that page; a check told the cause of"
        f" {len(found)} of {len(causes)} faults: number {median(checks or [0]):g} of its page in the median, at most"
        f" {max(checks, default=0)}. The first alert came after {median(minutes or [0]):.0f} minutes in the median, at"
        f" most {max(minutes, default=0):.0f}. Waits are divided by {TIME_DIVISOR}.",
        flush=True,
    )
    return int(good != len(outcomes))


def in_deployments(faults: list[DrillFault]) -> list[list[DrillFault]]:
    """Return the faults that share a deployment: those of one scenario, at most IN_ONE_DEPLOYMENT of them."""
    scenarios: list[DrillScenario] = []
    for fault in faults:
        scenarios += [] if fault.scenario in scenarios else [fault.scenario]
    groups = [[fault for fault in faults if fault.scenario == scenario] for scenario in scenarios]
    return [
        group[start : start + IN_ONE_DEPLOYMENT]
        for group in groups
        for start in range(0, len(group), IN_ONE_DEPLOYMENT)
    ]


def table_row(outcome: Outcome) -> str:
    """Return the row of an outcome in the table."""
    alerts = sorted(outcome.alerts.items(), key=lambda item: item[1])
    cells = (
        outcome.fault.name,
        ", ".join(f"{name}{' (!)' if name in outcome.unexpected else ''}" for name, _ in alerts) or "nothing",
        ", ".join(f"{after * TIME_DIVISOR / 60:.0f} min" for _, after in alerts),
        str(outcome.pages),
        "not found" if outcome.unknown_causes else ", ".join(f"check {cause.check}" for cause in outcome.fault.causes),
        ""
        if not outcome.fault.alerts
        else "never"
        if outcome.resolved_after is None
        else f"{outcome.resolved_after} evaluation{'s' * (outcome.resolved_after > 1)}",
        "good" if outcome.good else "WRONG",
    )
    return f"| {' | '.join(cells)} |"


def _alert_names(outcome: Outcome) -> set[str]:
    return {name.partition("[")[0] for name in outcome.fault.alerts}


def _percentage(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


if __name__ == "__main__":
    sys.exit(main())
