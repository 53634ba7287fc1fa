"""Customers: the cases of one customer, what they are about, and their files."""

import re
from collections.abc import Iterable

from support_service.api.attachments import present_attachment
from support_service.api.models.cases import MAX_CUSTOMER_FILES, CustomerPage, CustomerQuery, CustomerReferences
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import get
from support_service.api.routing.route import DATABASE_PROBLEMS, Permission, Tag
from support_service.cases.model.case import CaseSummary
from support_service.cases.model.requests import CaseQuery
from support_service.core.domain import references
from support_service.core.domain.upstream_services import SERVICE_BY_KIND
from support_service.core.errors import NotFound
from support_service.core.ids import ID_LENGTH

TAG = Tag("customers", "Customers: their cases, and what these refer to.")
# Other texts can't be the id of a customer, and a database refuses some of them.
CUSTOMER_ID_PATTERN = re.compile(rf"[^\0\ud800-\udfff]{{1,{ID_LENGTH}}}")


@get(
    "/support/customers/{customer_id}",
    # Analysts have no scope: an answer to a customer's id would say whose pseudonym it has.
    access=Permission("customers:read", {"agent": "own", "supervisor": "all", "customer": "own"}),
    reads_standby=True,
    problems=(*DATABASE_PROBLEMS, "customer_not_found"),
)
async def get_customer(call: Call, customer_id: str, query: CustomerQuery) -> Reply[CustomerPage]:
    """Get the cases of a customer, with what they refer to and their files.

    Cases and files are the newest first. `references` and `files` are those of the cases of this page; `nextCursor`
    requests the next page, and is null on the last one. Agents get the cases that they may see, customers only their
    own; without any, the answer is 404, whether the customer exists or not. Synthetic cases are left out.
    """
    service, page = call.service, None
    if CUSTOMER_ID_PATTERN.fullmatch(customer_id):
        of_customer = CaseQuery.model_construct(customer_id=customer_id, limit=query.limit, cursor=query.cursor)
        page = await service.cases.list_cases(call.principal, of_customer, call.reader)
    if page is None or not (page.items or query.cursor):
        raise NotFound("customer_not_found", f"There is no case of a customer {customer_id[:64]!r} that you may see.")
    # A second statement, because the first one serves all case lists, and ends a page by the size of its cases.
    files = await service.attachments.list_by_cases(
        call.principal, [case.id for case in page.items], MAX_CUSTOMER_FILES + 1
    )
    return Reply(
        CustomerPage.model_construct(
            customer_id=customer_id,
            cases=page.items,
            references=_references_of_cases(page.items),
            files=[present_attachment(service, stored) for stored in files[:MAX_CUSTOMER_FILES]],
            more_files=len(files) > MAX_CUSTOMER_FILES,
            next_cursor=page.next_cursor,
        )
    )


def _references_of_cases(cases: Iterable[CaseSummary]) -> CustomerReferences:
    found: dict[str, dict[str, None]] = {kind: {} for kind in SERVICE_BY_KIND}
    for case in cases:
        for kind, value in references.reference_rows(case.context):
            if kind in found:  # not a tracking number
                found[kind][value] = None
    return CustomerReferences.model_validate({f"{kind}s": [*values] for kind, values in found.items()})
