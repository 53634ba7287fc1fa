"""Hold the drill and print what came of it: `make drill`, or `python -m tests.e2e.drill --help`."""

import argparse
import asyncio
import sys

from tests.e2e.drill import TIME
from tests.e2e.drill.faults import FAULTS, Fault
from tests.e2e.drill.play import ROOT, Outcome, play

RUNBOOKS = ROOT / "runbooks"
COLUMNS = ("fault", "told in #data-ops", "seconds", "at real waits", "runbook", "over after", "verdict")


def main() -> int:
    """Play the faults; gives the exit status, 1 where an alert was missing, late to end, or one too many."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.drill", description=__doc__)
    parser.add_argument(
        "--only", metavar="TEXT", help="the faults whose name contains this; several with commas between"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="faults at once, each on a stage of its own")
    parser.add_argument("--list", action="store_true", help="print the faults and what is to be told of them")
    arguments = parser.parse_args()
    wanted = (arguments.only or "").split(",")
    faults = [fault for fault in FAULTS if any(text in fault.name for text in wanted)]
    if arguments.list:
        for fault in faults:
            print(f"{fault.name}: {', '.join(sorted(fault.alerts)) or 'nothing'}")
        return 0
    return asyncio.run(_run(faults, arguments.jobs))


async def _run(faults: list[Fault], jobs: int) -> int:
    places = asyncio.Semaphore(jobs)

    async def in_turn(fault: Fault) -> Outcome:
        async with places:
            return await play(fault)

    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    outcomes = []
    for play_of in [asyncio.create_task(in_turn(fault)) for fault in faults]:
        outcome = await play_of
        outcomes.append(outcome)
        print(line(outcome), flush=True)
        for trouble in (*outcome.wrong, *(f"missing {name}" for name in outcome.missing)):
            print(f"  {outcome.fault.name}: {trouble}", file=sys.stderr, flush=True)
    expected = sum(len(_names(outcome)) for outcome in outcomes)
    right = sum(len(_names(outcome) & outcome.told.keys()) for outcome in outcomes)
    told = sum(len(outcome.told) for outcome in outcomes)
    good = sum(_good(outcome) for outcome in outcomes)
    print(
        f"\nrecall {_share(right, expected)}, precision {_share(right, told)}; {good} of {len(outcomes)} as expected."
        f" Waits are divided by {TIME}.",
        flush=True,
    )
    return int(good != len(outcomes))


def line(outcome: Outcome) -> str:
    """One row of the table."""
    told = sorted(outcome.told.items(), key=lambda item: item[1])
    books = [f"{book}{'' if (RUNBOOKS / book).is_file() else ' (missing)'}" for book in outcome.runbooks.values()]
    cells = (
        outcome.fault.name,
        ", ".join(f"{name}{' (!)' if name in outcome.surplus else ''}" for name, _ in told) or "nothing",
        ", ".join(f"{after:.1f}" for _, after in told),
        ", ".join(f"{after * TIME / 60:.0f} min" for _, after in told),
        ", ".join(books),
        ""
        if not outcome.fault.alerts
        else "never"
        if outcome.over_after is None
        else f"{outcome.over_after} evaluation{'s' * (outcome.over_after > 1)}",
        "good" if _good(outcome) else "WRONG",
    )
    return f"| {' | '.join(cells)} |"


def _good(outcome: Outcome) -> bool:
    """As expected, and each link leads to a runbook."""
    return outcome.good and all((RUNBOOKS / book).is_file() for book in outcome.runbooks.values())


def _names(outcome: Outcome) -> set[str]:
    return {name.partition("[")[0] for name in outcome.fault.alerts}


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


if __name__ == "__main__":
    sys.exit(main())
