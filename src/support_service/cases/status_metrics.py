"""Metrics of the changes of a case's status."""

from support_service.cases.model.case import CaseSummary
from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES
from support_service.platform.telemetry.instruments import Instruments


def count_status(instruments: Instruments, before: CaseSummary, after: CaseSummary) -> None:
    """Count a committed change of the status, unless it is the same or the case is synthetic."""
    if after.status == before.status or after.synthetic:
        return
    instruments.ticket_status_changed.add(1, {"status": after.status})
    if before.status in ACTIVE_STATUSES and after.status not in ACTIVE_STATUSES:
        instruments.ticket_resolution.record((after.updated_at - after.created_at).total_seconds())
