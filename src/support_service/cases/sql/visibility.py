"""Who sees what, as SQL: which cases, which messages and files of them, and which duplicates.

The rule for objects is in `core/domain/principals.py`: `Principal.may_see` and `Principal.may_see_visibility`.
"""

from typing import Any

import sqlalchemy as sa

from support_service.cases.model.vocabulary import DUPLICATE_OF
from support_service.core.domain.principals import Principal
from support_service.platform.database.dialect import text_literal
from support_service.platform.database.tables import case_links, tickets

PUBLIC_LITERAL: sa.ColumnClause[str] = sa.literal_column("'public'")


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


def readable_condition(table: sa.FromClause, *, public_only: bool) -> sa.ColumnElement[bool]:
    """Return the condition for the messages, or the files, that staff or customers may read."""
    return table.c.visibility == PUBLIC_LITERAL if public_only else sa.true()


def has_duplicates(case_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Return the condition for a case that another one is a duplicate of."""
    is_duplicate = case_links.c.kind == text_literal(DUPLICATE_OF)
    return sa.select(case_links.c.seq).where(case_links.c.other_case_id == case_id, is_duplicate).exists()


def cases_before(kind: sa.ColumnElement[str], case_id: sa.ColumnElement[str]) -> sa.CTE:
    """Return the `id` of each case from which links of a kind lead to a case, directly or by other cases."""
    links = case_links.c
    direct = sa.select(links.case_id.label("id")).where(links.kind == kind, links.other_case_id == case_id)
    before = direct.cte(recursive=True)
    # UNION leaves out what was found before, so the search ends.
    return before.union(sa.select(links.case_id).where(links.kind == kind, links.other_case_id == before.c.id))


def duplicates_of(case_id: sa.ColumnElement[str], *, public_only: bool) -> sa.Select[Any]:
    """Return the SELECT of the `id` of each duplicate whose conversation staff, or the customer, read with a case."""
    before = cases_before(text_literal(DUPLICATE_OF), case_id)
    if not public_only:
        return sa.select(before.c.id)
    # Not joins, with which SQLite reads all cases of the customer.
    return sa.select(before.c.id).where(_customer_of(before.c.id) == _customer_of(case_id))


def _customer_of(case_id: sa.ColumnElement[str]) -> sa.ScalarSelect[Any]:
    case = tickets.alias()
    return sa.select(case.c.customer_id).where(case.c.id == case_id).scalar_subquery()


def has_readable_duplicates(case_id: sa.ColumnElement[str], *, public_only: bool) -> sa.ColumnElement[bool]:
    """Return the condition for a case that is read with duplicates. Customers read their own duplicates only."""
    direct = has_duplicates(case_id)  # most cases have none, and the others need not be looked for
    if not public_only:
        return direct
    return sa.case((direct, duplicates_of(case_id, public_only=True).exists()), else_=sa.false())
