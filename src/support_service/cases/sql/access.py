"""`Principal.may_see` as SQL: which cases a caller may see."""

from typing import Any

import sqlalchemy as sa

from support_service.core.domain.principals import Principal
from support_service.platform.database.tables import tickets


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
