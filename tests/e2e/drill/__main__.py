"""Run the drill and print its results: `make drill`, or `python -m tests.e2e.drill --help`."""

import argparse
import asyncio
import sys

from tests.e2e.drill import TIME
from tests.e2e.drill.faults import FAULTS, Fault
from tests.e2e.drill.run import ROOT, Outcome, run_fault

RUNBOOKS = ROOT / "runbooks"
COLUMNS = ("fault", "alerts in #data-ops", "seconds", "at real waits", "runbook", "resolved after", "verdict")


def main() -> int:
    """Run the drill; return the exit status, 1 if an alert was missing, unexpected or late to resolve."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.drill", description=__doc__)
    parser.add_argument(
        "--only", metavar="TEXT", help="run faults whose name contains TEXT; separate several texts with commas"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="concurrent faults, each with its own environment"
    )
    parser.add_argument("--list", action="store_true", help="print the faults and the alerts they must raise")
    arguments = parser.parse_args()
    wanted = (arguments.only or "").split(",")
    faults = [fault for fault in FAULTS if any(text in fault.name for text in wanted)]
    if arguments.list:
        for fault in faults:
            print(f"{fault.name}: {', '.join(sorted(fault.alerts)) or 'nothing'}")
        return 0
    return asyncio.run(_run(faults, arguments.jobs))


async def _run(faults: list[Fault], jobs: int) -> int:
    slots = asyncio.Semaphore(jobs)

    async def run_in_slot(fault: Fault) -> Outcome:
        async with slots:
            return await run_fault(fault)

    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    outcomes = []
    for task in [asyncio.create_task(run_in_slot(fault)) for fault in faults]:
        outcome = await task
        outcomes.append(outcome)
        print(table_row(outcome), flush=True)
        for error in (*outcome.errors, *(f"missing {name}" for name in outcome.missing)):
            print(f"  {outcome.fault.name}: {error}", file=sys.stderr, flush=True)
    expected = sum(len(_alert_names(outcome)) for outcome in outcomes)
    right = sum(len(_alert_names(outcome) & outcome.alerts.keys()) for outcome in outcomes)
    raised = sum(len(outcome.alerts) for outcome in outcomes)
    good = sum(_is_good(outcome) for outcome in outcomes)
    print(
        f"\nrecall {_percentage(right, expected)}, precision {_percentage(right, raised)}; {good} of {len(outcomes)}"
        f" as expected. Waits are divided by {TIME}.",
        flush=True,
    )
    return int(good != len(outcomes))


def table_row(outcome: Outcome) -> str:
    """Return the row of an outcome in the table."""
    alerts = sorted(outcome.alerts.items(), key=lambda item: item[1])
    books = [f"{book}{'' if (RUNBOOKS / book).is_file() else ' (missing)'}" for book in outcome.runbooks.values()]
    cells = (
        outcome.fault.name,
        ", ".join(f"{name}{' (!)' if name in outcome.unexpected else ''}" for name, _ in alerts) or "nothing",
        ", ".join(f"{after:.1f}" for _, after in alerts),
        ", ".join(f"{after * TIME / 60:.0f} min" for _, after in alerts),
        ", ".join(books),
        ""
        if not outcome.fault.alerts
        else "never"
        if outcome.resolved_after is None
        else f"{outcome.resolved_after} evaluation{'s' * (outcome.resolved_after > 1)}",
        "good" if _is_good(outcome) else "WRONG",
    )
    return f"| {' | '.join(cells)} |"


def _is_good(outcome: Outcome) -> bool:
    """Return whether the outcome is as expected, and each runbook link leads to a file."""
    return outcome.good and all((RUNBOOKS / book).is_file() for book in outcome.runbooks.values())


def _alert_names(outcome: Outcome) -> set[str]:
    return {name.partition("[")[0] for name in outcome.fault.alerts}


def _percentage(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


if __name__ == "__main__":
    sys.exit(main())
