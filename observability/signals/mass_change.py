"""SupportMassChange: far more cases or files are changed than usual."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from itertools import cycle

import aiohttp
from grafana.panel import Panel, Query, selector

from observability.drill import Action, Cause, Deployment, DrillFault, repeatedly
from observability.faults import REPAIRED_MINUTE, CounterValues, Fault
from observability.signal import AT_ONCE, Alert, Record, Signal

CHANGE_WINDOW = "15m"  # shorter than the hour in which a bulk change can be undone
CHANGES = 1000  # changes of cases in CHANGE_WINDOW; two bulk changes of 500 cases, of which one may be meant
REMOVALS = 100  # removed files in CHANGE_WINDOW; people remove a few
CHANGE_FACTOR = 3  # multiple of the highest number in CHANGE_WINDOW of the day before; jobs of each night are in it
DAY_BEFORE = "1d"  # a job that runs once a day is in it
NOT_NOW = "3h"  # a flood is not compared with itself
OF_FILES = "attachment.removed"
ENTRIES, NOT_OTHER = "support_audit_entries_total", 'action!="other"'
RECENT = "support:audit_entries:increase15m"
USUAL = f"max_over_time({RECENT}[{DAY_BEFORE}] offset {NOT_NOW})"
CASES_OF_A_BULK = 200  # in the drill, if there are as many
SCRIPT = "import-script"  # the caller of the drill


def _above(selected: str, floor: int) -> str:
    recent = f'{RECENT}{{action{selected}"{OF_FILES}"}}'
    return f"({recent} > {floor} unless {recent} <= {CHANGE_FACTOR} * {USUAL})"


def _entries(action: str) -> str:
    return f'support_audit_entries_total{{action="{action}"}}'


@asynccontextmanager
async def _a_script_changes_everything(deployment: Deployment) -> AsyncIterator[None]:
    """It gives the same cases another priority, again and again, with the operation for bulk changes."""
    newest = f"SELECT id FROM tickets WHERE channel <> 'synthetic' ORDER BY seq DESC LIMIT {CASES_OF_A_BULK}"
    cases = (await deployment.database.run(newest)).split()
    priorities = cycle(("low", "high"))
    headers = {"Authorization": f"Bearer {deployment.token(SCRIPT)}"}
    async with aiohttp.ClientSession(deployment.load_balancer.ingress, headers=headers) as client:
        accepted = False

        async def change() -> None:
            nonlocal accepted
            if not cases:
                return
            body = {"ids": cases, "change": {"priority": next(priorities)}}
            try:
                async with client.post("/support/cases/bulk", json=body) as response:
                    refused = response.status == HTTPStatus.UNAUTHORIZED
            except aiohttp.ServerDisconnectedError:
                return  # the load balancer closed a kept connection: the script goes on with the next change
            if refused and accepted:  # its token was revoked; before, the replicas do not know it yet
                cases.clear()
            accepted = accepted or not refused

        async with repeatedly(change, 0.2):
            yield


SIGNAL = Signal(
    group="traffic",
    alerts=(
        Alert(
            name="SupportMassChange",
            short=("far more cases or files are changed than usual", "case hoặc file bị thay đổi nhiều hơn hẳn"),
            expr=f"{_above('!=', CHANGES)} or {_above('=', REMOVALS)}",
            for_=AT_ONCE,
            severity="critical",
            summary="Far more changes than usual: {{ $value | humanize }} times {{ $labels.action }} in "
            f"{CHANGE_WINDOW}",
            description=f"The audit log has {{{{ $value | humanize }}}} entries {{{{ $labels.action }}}} of the last "
            f"{CHANGE_WINDOW}. The limit is {CHANGES}, for removed files {REMOVALS}, and {CHANGE_FACTOR} times the "
            "most of the day before. If nobody meant it, agents lose their work lists or files. A bulk change can be "
            "undone for an hour.",
            stated=(f"{CHANGES:,} ", f"{REMOVALS} ", f"{CHANGE_FACTOR} ", CHANGE_WINDOW),
        ),
    ),
    records=(Record(RECENT, f"sum by (action) (increase({ENTRIES}{{{NOT_OTHER}}}[{CHANGE_WINDOW}]))"),),
    panels=(
        Panel(
            "Support changes of cases",
            f"Changes of cases and removed files in {CHANGE_WINDOW}, by their action in the audit log (the line is the "
            "limit for changes). Normal: as on the day before.",
            row="cases",
            place=45,
            queries=(
                Query(f"sum by (action) (increase({selector(ENTRIES, NOT_OTHER)}[{CHANGE_WINDOW}]))", "{{action}}"),
            ),
            unit="short",
            limit=CHANGES,
            width=12,
        ),
    ),
    faults={
        "a script changes every case": Fault(
            ("SupportMassChange",),
            {_entries("case.changed"): CounterValues(20, 100), _entries("case.closed"): CounterValues(5, 5)},
            resolved_after=REPAIRED_MINUTE + 16,
        ),
        "a script removes files": Fault(
            ("SupportMassChange",), {_entries(OF_FILES): CounterValues(1, 20)}, resolved_after=REPAIRED_MINUTE + 16
        ),
        "twenty agents close what they answered": Fault((), {_entries("case.closed"): CounterValues(10, 60)}),
    },
    drills=(
        DrillFault(
            "a script changes every case",
            ("SupportMassChange",),
            _a_script_changes_everything,
            (Cause(1, rf"case\.changed.*{SCRIPT}"),),
            actions=(Action("Stop the actor", (SCRIPT,)),),
            resolved_within=18,  # the window looks back for fifteen
        ),
    ),
)
