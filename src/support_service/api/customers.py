"""Customers: what staff know of them, their cases, what these are about, and their files."""

import asyncio
from collections.abc import Iterable
from urllib.parse import quote

from support_service.api.attachments import present_attachment
from support_service.api.models.cases import MAX_CUSTOMER_FILES, CustomerPage, CustomerQuery, CustomerReferences
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import delete, get, post, put
from support_service.api.routing.etags import unique_version_etag_header, version_etag_header
from support_service.api.routing.route import DATABASE_PROBLEMS, Permission, RouteResponse, Tag
from support_service.cases.model.case import CaseSummary
from support_service.cases.model.requests import CaseQuery
from support_service.core.domain import references
from support_service.core.domain.upstream_services import SERVICE_BY_KIND
from support_service.core.errors import FieldError, problem
from support_service.core.ids import ID_LENGTH
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.desk.customer_models import Customer, CustomerChange, CustomerMerge, CustomerSearch, FoundCustomers
from support_service.desk.customers import customer_not_found, is_customer_id

TAG = Tag("customers", "Customers: their names, their cases, and what these refer to.")
CUSTOMERS_PATH = "/support/customers"
CUSTOMER_PATH = CUSTOMERS_PATH + "/{customer_id}"
CUSTOMERS_WRITE = Permission("customers:write", {"agent": "all", "supervisor": "all", "service": "all"})
CUSTOMERS_MERGE = Permission("customers:merge", {"agent": "all", "supervisor": "all"})
CUSTOMER_PROBLEMS = (*DATABASE_PROBLEMS, "customer_changed")


@get(
    CUSTOMERS_PATH,
    access=Permission("customers:search", {"agent": "all", "supervisor": "all", "service": "all"}),
    problems=DATABASE_PROBLEMS,
)
async def find_customers(call: Call, query: CustomerSearch) -> Reply[FoundCustomers]:
    """Find customers by their name, or by an e-mail address, a phone number or another contact.

    They are in the order of their names. A person is found by each of its ids, and returned under the id that has the
    record. Services are not shown the notes of staff.
    """
    return Reply(await call.service.customers.find(call.principal, query))


@get(
    CUSTOMER_PATH,
    # Analysts have no scope: an answer to a customer's id would say whose pseudonym it has.
    access=Permission("customers:read", {"agent": "own", "supervisor": "all", "customer": "own"}),
    headers=("ETag",),
    problems=(*DATABASE_PROBLEMS, "customer_not_found"),
)
async def get_customer(call: Call, customer_id: str, query: CustomerQuery) -> Reply[CustomerPage]:
    """Get a customer: the name and contacts, the cases, what they refer to, and their files.

    Cases and files are the newest first. `references` and `files` belong to the cases of this page. `nextCursor`
    requests the next page, and is null on the last one. Staff get the cases of all ids of the person, agents the cases
    that they may see. Customers get only the cases of their own id. Without a case and without a record the answer is
    404, whether the customer exists or not. Synthetic cases are left out.

    `ETag` is the version of the record, for `If-Match` of a change. Without a record it is `"0…"`, which no change
    accepts: send `If-None-Match: *` then.
    """
    service, record = call.service, None
    if not is_customer_id(customer_id):
        raise customer_not_found(customer_id)
    of_customer = CaseQuery.model_construct(customer_id=customer_id, limit=query.limit, cursor=query.cursor)
    listing = service.cases.list_cases(call.principal, of_customer)
    if call.principal.role == "customer":
        page = await listing
    else:
        page, record = await asyncio.gather(listing, service.customers.read(call.principal, customer_id))
    if not (page.items or query.cursor or record):
        raise customer_not_found(customer_id)
    # A statement of its own, because that of the list serves all case lists, and ends a page by the size of its cases.
    files = await service.attachments.list_by_cases(
        call.principal, [case.id for case in page.items], MAX_CUSTOMER_FILES + 1
    )
    found = CustomerPage.model_construct(
        customer_id=customer_id,
        identities=record.identities if record else [customer_id],
        name=record.name if record else next((case.customer_name for case in page.items), None),
        contacts=record.contacts if record else [],
        notes=record.notes if record else None,
        cases=page.items,
        references=_references_of_cases(page.items),
        files=[present_attachment(service, stored) for stored in files[:MAX_CUSTOMER_FILES]],
        more_files=len(files) > MAX_CUSTOMER_FILES,
        next_cursor=page.next_cursor,
    )
    # The cases change without the record: the tag is unique, and valid in If-Match only.
    return Reply(found, unique_version_etag_header(record.version if record else 0))


@put(
    CUSTOMER_PATH,
    access=CUSTOMERS_WRITE,
    headers=("ETag",),
    other_responses=(RouteResponse(201, "The record was added.", Customer, headers=("ETag", "Location")),),
    problems=(*CUSTOMER_PROBLEMS, "customer_merged"),
)
async def put_customer(
    call: Call, customer_id: str, body: CustomerChange, expected: ExpectedVersions
) -> Reply[Customer]:
    """Change the name, the contacts or the notes of a customer, or add the record of a customer.

    Fields that are not sent stay as they are; null clears a field, and `contacts` is set as a whole. The cases of the
    customer show the new name at once, and get no new version.
    """
    if not is_customer_id(customer_id):
        wrong = FieldError("customerId", f"must have 1 to {ID_LENGTH} characters")
        raise problem("invalid_request", "The id in the path can't be the id of a customer.", [wrong])
    customer, created = await call.service.customers.change(call.origin, customer_id, body, expected)
    headers = version_etag_header(customer.version)
    if not created:
        return Reply(customer, headers)
    return Reply(customer, headers | {"Location": f"{CUSTOMERS_PATH}/{quote(customer_id, safe='')}"}, 201)


@post(
    CUSTOMER_PATH + "/merge",
    access=CUSTOMERS_MERGE,
    headers=("ETag",),
    problems=(*CUSTOMER_PROBLEMS, "customer_already_merged", "customer_not_found", "too_many_identities"),
)
async def merge_customer(
    call: Call, customer_id: str, body: CustomerMerge, expected: ExpectedVersions
) -> Reply[Customer]:
    """Merge a customer into another one, who is the same person, and return the person.

    All ids that were merged into it come along. Cases keep their `customerId`. Staff read the cases of all ids as the
    cases of one customer, with the name of the person. The customer with either id still sees only the cases of that
    id. Both may be any customer with a record or a case; a repeat changes nothing.
    """
    customer = await call.service.customers.merge(call.origin, customer_id, body.into, expected)
    return Reply(customer, version_etag_header(customer.version))


@delete(
    CUSTOMER_PATH + "/identities/{other_id}",
    access=CUSTOMERS_MERGE,
    problems=(*CUSTOMER_PROBLEMS, "identity_not_found"),
)
async def separate_customer(call: Call, customer_id: str, other_id: str, expected: ExpectedVersions) -> Reply[None]:
    """Undo the merge of another id: it is a customer of its own again, with the ids that were merged into it.

    Its record is as it was before.
    """
    await call.service.customers.separate(call.origin, customer_id, other_id, expected)
    return Reply(None)


def _references_of_cases(cases: Iterable[CaseSummary]) -> CustomerReferences:
    found: dict[str, dict[str, None]] = {kind: {} for kind in SERVICE_BY_KIND}
    for case in cases:
        for kind, value in references.reference_rows(case.context):
            if kind in found:  # not a tracking number
                found[kind][value] = None
    return CustomerReferences.model_validate({f"{kind}s": [*values] for kind, values in found.items()})
