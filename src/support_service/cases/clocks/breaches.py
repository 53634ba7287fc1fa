"""Breaches are reported once: an entry in the audit log and an event, in the transaction that sets the clock's state.

The transaction of an answer that comes too late reports its breach; all others are found by `detector.py`.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from support_service.core.domain.service_levels import TARGETS, Target
from support_service.events import outbox
from support_service.platform.audit import log as audit
from support_service.platform.idempotency.unit_of_work import SYSTEM_ORIGIN, UnitOfWork
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec

SLA_BREACHED = InstrumentSpec(
    "support.sla.breached",
    "counter",
    "{clock}",
    "Breaches of service levels that were reported, by target",
    {"target": TARGETS},
)


class Breach(NamedTuple):
    """A clock that was due before what it measures had happened, and the time of the report.

    `public` if customers see the clock.
    """

    case_id: str
    target: Target
    due_at: datetime
    at: datetime
    public: bool


async def report(work: UnitOfWork, instruments: Instruments, breaches: Sequence[Breach]) -> None:
    """Store the entries and the events of breaches; they are counted after the commit."""
    if not breaches:
        return
    # The actor is the system, also if an agent's late answer shows the breach.
    system = UnitOfWork(work.tx, SYSTEM_ORIGIN)
    entries = [
        (each.case_id, each.at, {"target": (None, each.target), "dueAt": (None, each.due_at)}) for each in breaches
    ]
    await audit.record_all(system, "sla.breached", entries)
    events = [(each.case_id, each.at, _event_data(each)) for each in breaches]
    await outbox.append_all(work.tx, outbox.CASE_SLA_BREACHED, events)
    numbers = Counter(each.target for each in breaches)
    work.after_commit(partial(_count, instruments, numbers))


def _event_data(breach: Breach) -> dict[str, Any]:
    visibility = "public" if breach.public else "internal"
    return {"target": breach.target, "dueAt": breach.due_at, "visibility": visibility}


def _count(instruments: Instruments, numbers: Counter[Target]) -> None:
    for target, number in numbers.items():
        instruments.add(SLA_BREACHED, number, {"target": target})
