"""SQL expressions that return the links of a case as JSON, seen from that case."""

from typing import Any

import sqlalchemy as sa

from support_service.cases.model.links import DUPLICATE_OF, INVERSE_KINDS
from support_service.platform.database.dialect import json_rows, text_literal
from support_service.platform.database.json_projections import json_object_of
from support_service.platform.database.tables import case_links, tickets

_IS_FIRST = case_links.c.case_id == tickets.c.id
_OTHER_CASE = sa.case((_IS_FIRST, case_links.c.other_case_id), else_=case_links.c.case_id)


_KIND = sa.case(
    (_IS_FIRST, case_links.c.kind),
    *((case_links.c.kind == text_literal(kind), text_literal(inverse)) for kind, inverse in INVERSE_KINDS.items()),
    else_=case_links.c.kind,
)


def _links_json(*conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
    """Return a subquery for the JSON array of a case's links that meet the conditions, oldest first."""
    rows = (
        sa.select(case_links.c.id, _KIND.label("kind"), _OTHER_CASE.label("other_case"), case_links.c.created_at)
        .where(sa.or_(_IS_FIRST, case_links.c.other_case_id == tickets.c.id), *conditions)
        .order_by(case_links.c.seq)
        .correlate(tickets)
        .subquery()
    )
    members = {"id": rows.c.id, "kind": rows.c.kind, "caseId": rows.c.other_case, "createdAt": rows.c.created_at}
    return sa.select(json_rows(json_object_of(members))).scalar_subquery()


_other = tickets.alias("other_case")
_OF_SAME_CUSTOMER = (
    sa.select(_other.c.seq)
    .where(_other.c.id == _OTHER_CASE, _other.c.customer_id == tickets.c.customer_id)
    .correlate(tickets, case_links)
    .exists()
)
LINKS_JSON = _links_json()
# What customers see: duplicates, if both cases are theirs.
PUBLIC_LINKS_JSON = _links_json(case_links.c.kind == text_literal(DUPLICATE_OF), _OF_SAME_CUSTOMER)
