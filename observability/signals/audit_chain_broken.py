"""SupportAuditChainBroken: the audit log was altered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, hourly_rate

from observability.drill import Cause, Deployment, DrillFault
from observability.faults import CounterValues, Fault
from observability.signal import AT_ONCE, WINDOW, Alert, Signal

BROKEN = 0  # broken verifications in WINDOW, of one a minute; an altered entry is never chance
FORGED = "nobody"  # the actor of the drill's entry


def _verifications(result: str) -> str:
    return f'support_audit_verifications_total{{result="{result}"}}'


@asynccontextmanager
async def _an_entry_is_altered(deployment: Deployment) -> AsyncIterator[None]:
    """An owner of the database names another actor in an old entry, past the triggers."""
    alter = (
        "BEGIN; ALTER TABLE audit_log DISABLE TRIGGER audit_log_stays;"
        " UPDATE audit_log SET actor = '{}' WHERE position = 1;"
        " ALTER TABLE audit_log ENABLE TRIGGER audit_log_stays; COMMIT"
    )
    actor = await deployment.database.run("SELECT actor FROM audit_log WHERE position = 1")
    await deployment.database.run(alter.format(FORGED))
    yield
    await deployment.database.run(alter.format(actor))


SIGNAL = Signal(
    group="service",
    alerts=(
        Alert(
            name="SupportAuditChainBroken",
            short=("the audit log was altered", "nhật ký audit bị sửa"),
            expr=f"sum(increase({_verifications('broken')}[{WINDOW}])) > {BROKEN}",
            for_=AT_ONCE,
            severity="critical",
            summary="The audit log was altered: its hash chain is broken",
            description="{{ $value | humanize }} regular verifications of the audit log found a broken chain in "
            f"{WINDOW} (limit {BROKEN}). An entry was changed, removed or inserted past the service: someone with "
            "write access to the database hides what was done. Leave the database as it is.",
            stated=(WINDOW, f" {BROKEN} "),
        ),
    ),
    panels=(
        Panel(
            "Support audit verification",
            "Verifications of the audit log per hour by result, and on the right, entries that were verified. Normal: "
            "60 intact, none broken or failed.",
            row="access",
            place=35,
            queries=(
                Query(hourly_rate("support_audit_verifications_total", "result"), "{{result}}"),
                Query(hourly_rate("support_audit_verified_total"), "entries", right="short"),
            ),
            unit="suffix: /h",
        ),
    ),
    faults={
        "an entry of the audit log is altered": Fault(
            ("SupportAuditChainBroken",),
            {_verifications("intact"): CounterValues(1, 0), _verifications("broken"): CounterValues(0, 1)},
        ),
        "the audit log can't be read for a while": Fault(
            (), {_verifications("intact"): CounterValues(1, 0), _verifications("failed"): CounterValues(0, 1)}
        ),
    },
    drills=(
        DrillFault(
            "audit log altered",
            ("SupportAuditChainBroken",),
            _an_entry_is_altered,
            (Cause(1, "position 1 differs"),),
            only_repair="the operator of the database has to put the entry back",
        ),
    ),
)
