"""Run the drill and print its results: `make drill`, or `python -m tests.e2e.drill --help`."""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, date, datetime
from itertools import chain
from math import ceil
from statistics import median
from typing import TextIO

from observability.drill import TIME_DIVISOR, DrillFault, DrillScenario

from tests.e2e.drill.faults import FAULTS
from tests.e2e.drill.run import ROOT, Outcome, run_faults

IN_ONE_DEPLOYMENT = 26  # faults
A_DAY = 24  # faults of the daily form: 15 minutes on two cores
REPORT = ROOT / "build" / "drill.md"
COLUMNS = ("fault", "alerts in #data-ops", "at real waits", "pages", "cause", "action", "resolved after", "result")


def main() -> int:
    """Run the drill; return the exit status, 1 if a fault did not end as expected."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.drill", description=__doc__)
    parser.add_argument(
        "--only", metavar="TEXT", help="run faults whose name contains TEXT; separate several texts with commas"
    )
    parser.add_argument(
        "--daily", action="store_true", help="run the faults of today, 15 minutes of them; all come within days"
    )
    parser.add_argument(
        "--from", dest="first", metavar="NAME", help=f"begin with this fault, and add its rows to {REPORT.name}"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="deployments that run at the same time")
    parser.add_argument("--list", action="store_true", help="print the faults and the alerts they must raise")
    arguments = parser.parse_args()
    wanted = (arguments.only or "").split(",")
    faults = of_the_day(FAULTS, datetime.now(UTC).date()) if arguments.daily else FAULTS
    groups = in_deployments([fault for fault in faults if any(text in fault.name for text in wanted)])
    if arguments.first is not None:
        groups = since(groups, arguments.first)
    if not groups:
        parser.error("no fault has this name: --list prints them")
    if arguments.list:
        for fault in chain.from_iterable(groups):
            print(f"{fault.name}: {', '.join(sorted(fault.alerts)) or 'nothing'}")
        return 0
    REPORT.parent.mkdir(exist_ok=True)
    with REPORT.open("w" if arguments.first is None else "a") as report:
        return asyncio.run(_run(groups, arguments.jobs, report))


async def _run(groups: list[list[DrillFault]], jobs: int, report: TextIO) -> int:
    # Ended by `kill`, a drill also ends what it has started.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    outcomes: list[Outcome] = []
    slots = asyncio.Semaphore(jobs)

    def say(text: str) -> None:
        for file in (sys.stdout, report):
            print(text, file=file, flush=True)

    async def run_in_slot(some: Sequence[DrillFault]) -> None:
        async with slots, aclosing(run_faults(some)) as results:
            async for outcome in results:
                outcomes.append(outcome)
                say(table_row(outcome))
                for error in (
                    *outcome.errors,
                    *outcome.unknown_causes,
                    *(f"missing {name}" for name in outcome.missing),
                ):
                    print(f"  {outcome.fault.name}: {error}", file=sys.stderr, flush=True)

    if not report.tell():
        say(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for some in groups:
            group.create_task(run_in_slot(some))
    minutes = (time.monotonic() - started) / 60
    say(f"\n{summary(outcomes)} The run of {datetime.now(UTC):%Y-%m-%d} took {minutes:.0f} min.")
    return int(not all(outcome.good for outcome in outcomes))


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the figures of a run: what was found, by which check, what the actions ended, and how soon."""
    expected = sum(len(_alert_names(outcome)) for outcome in outcomes)
    right = sum(len(_alert_names(outcome) & outcome.alerts.keys()) for outcome in outcomes)
    raised = sum(len(outcome.alerts) for outcome in outcomes)
    good = sum(outcome.good for outcome in outcomes)
    paged = [outcome.pages for outcome in outcomes if outcome.pages]
    causes = [outcome for outcome in outcomes if outcome.fault.causes]
    found = [outcome for outcome in causes if not outcome.unknown_causes]
    checks = [max(cause.check for cause in outcome.fault.causes) for outcome in found]
    early = sum(check <= 2 for check in checks)
    acted = [outcome for outcome in outcomes if outcome.fault.actions]
    ended = sum(outcome.resolved_after is not None for outcome in acted)
    minutes = [min(outcome.alerts.values()) * TIME_DIVISOR / 60 for outcome in found if outcome.alerts]
    return (
        f"recall {_percentage(right, expected)}, precision {_percentage(right, raised)}; {good} of {len(outcomes)}"
        f" as expected; {sum(paged)} pages for {len(paged)} faults that page; a check told the cause of"
        f" {len(found)} of {len(causes)} faults, {early} by check 1 or 2 of its page, all by check"
        f" {max(checks, default=0)}; the printed actions ended {ended} of {len(acted)} faults that have some. The first"
        f" alert came after {median(minutes or [0]):.0f} minutes in the median, at most {max(minutes, default=0):.0f}."
        f" Waits are divided by {TIME_DIVISOR}."
    )


def of_the_day(faults: Sequence[DrillFault], day: date) -> list[DrillFault]:
    """Return the faults of the daily form: of as many days as all of them need, each day has others."""
    days = ceil(len(faults) / A_DAY)
    return list(faults[day.toordinal() % days :: days])


def since(groups: list[list[DrillFault]], name: str) -> list[list[DrillFault]]:
    """Return the faults from the fault of this name on, in the order in which they run; none without it."""
    while groups and name not in (fault.name for fault in groups[0]):
        groups = groups[1:]
    if not groups:
        return []
    names = [fault.name for fault in groups[0]]
    return [groups[0][names.index(name) :], *groups[1:]]


def in_deployments(faults: Sequence[DrillFault]) -> list[list[DrillFault]]:
    """Return the faults that share a deployment: faults of one scenario, at most IN_ONE_DEPLOYMENT of them."""
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
    alerts = sorted(outcome.alerts.items(), key=lambda item: item[1])
    cells = (
        outcome.fault.name,
        ", ".join(f"{name}{' (!)' if name in outcome.unexpected else ''}" for name, _ in alerts) or "nothing",
        ", ".join(f"{after * TIME_DIVISOR / 60:.0f} min" for _, after in alerts),
        str(outcome.pages),
        "not found" if outcome.unknown_causes else ", ".join(f"check {cause.check}" for cause in outcome.fault.causes),
        ", ".join(outcome.actions) if outcome.fault.actions else outcome.fault.only_repair and "repair only",
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
