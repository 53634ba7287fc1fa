"""A case read together with its duplicates. Such an answer depends on several cases, so it is not kept."""

from support_service.cases.sql.case_reading import StoredCase
from support_service.core.domain.principals import Principal, View
from support_service.service import Service

READ_BYTES = 64 * 1024  # bytes of the cases that cost as much as one request: masking them takes about 10 ms


async def read_with_duplicates(
    services: Service, principal: Principal, view: View, case_id: str, *, with_timeline: bool
) -> tuple[StoredCase, bytes]:
    """Return a case, and its JSON with the messages and files of its duplicates, and one timeline of all if wanted.

    Only those duplicates count that the principal may see. With a timeline each costs one request. What is read costs
    too, besides the answer: a masked answer is short and takes longer. Raises NotFound and RateLimited.
    """
    stored = await services.cases.read_long_case(principal, case_id, with_history=with_timeline)
    duplicates = await services.links.read_duplicates(principal, case_id, with_history=with_timeline)
    cases = [stored, *duplicates]
    cost = sum(each.size for each in cases) // READ_BYTES + (len(duplicates) if with_timeline else 0)
    services.admission.charge_more(principal.name, cost)
    return stored, await services.documents.encode_linked(principal, view, cases, with_timeline=with_timeline)
