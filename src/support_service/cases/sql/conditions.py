"""What SQL asks of a case: whether it is active or synthetic, when it last changed, and who may see it."""

from typing import Any

import sqlalchemy as sa

from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES, SYNTHETIC
from support_service.core.domain.principals import Principal
from support_service.platform.database.dialect import latest_time
from support_service.platform.database.tables import case_clocks, tickets

LATEST_CHANGE = latest_time(tickets.c.updated_at, sa.func.coalesce(tickets.c.internal_updated_at, tickets.c.updated_at))
"""The time of the last change of a case, including internal notes."""

IS_SYNTHETIC: sa.ColumnElement[bool] = sa.func.coalesce(
    tickets.c.synthetic, tickets.c.channel == sa.literal_column(f"'{SYNTHETIC}'")
)
"""True for a synthetic case, which is in no list and in no count. Older releases say so by the channel only."""

IS_ACTIVE: sa.ColumnElement[bool] = tickets.c.status.in_(
    [sa.literal_column(f"'{status}'", sa.String()) for status in ACTIVE_STATUSES]
)
"""True for a case that is still being worked on. Literals, because a partial index has the same condition."""

HAS_PUBLIC_CLOCKS = sa.exists().where(case_clocks.c.case_id == tickets.c.id, case_clocks.c.public)
"""True for a case with clocks that its customer sees."""


def access_parameters(principal: Principal) -> dict[str, Any]:
    """Return the parameters of `access_conditions`."""
    # A missing subject becomes an empty string, which is never an id: it must not match cases without a customer.
    return {"subject": principal.subject or "", "teams": list(principal.teams)}


def access_conditions(role: str) -> list[sa.ColumnElement[bool]]:
    """Return `Principal.may_see` as SQL conditions; an empty list for roles that see all cases."""
    subject: sa.BindParameter[str] = sa.bindparam("subject")
    if role == "customer":
        return [tickets.c.customer_id == subject]
    if role == "agent":
        of_agent = sa.or_(
            tickets.c.assigned_agent_id == subject,
            sa.and_(tickets.c.assigned_agent_id.is_(None), tickets.c.team.is_(None)),
            tickets.c.team.in_(sa.bindparam("teams", expanding=True)),
        )
        return [of_agent]
    return []
