"""Service levels whose due times have passed."""

from datetime import timedelta
from typing import get_args

from support_service.core.clock import utc_now
from support_service.core.domain.case_vocabulary import ClockTarget
from support_service.platform.database.tables import case_clocks, tickets
from tests.support.service import service_of

HOUR = timedelta(hours=1)
ALL_TARGETS = get_args(ClockTarget)


async def move_due_times(client, hours, targets=ALL_TARGETS):
    """Move the due times of all running clocks of some targets into the past, as if the time had passed."""
    at = utc_now() - hours * HOUR
    moved = case_clocks.update().where(case_clocks.c.state == "running", case_clocks.c.target.in_(targets))
    async with service_of(client).database.transaction() as tx:
        await tx.execute(moved.values(due_at=at))
        await tx.execute(tickets.update().where(tickets.c.sla_due_at.is_not(None)).values(sla_due_at=at))
    return at
