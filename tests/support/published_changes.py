"""Changes of a case as the service publishes them, the owner of the case, and a stream that shows them."""

import json
from types import SimpleNamespace

from support_service.core.domain.principals import CaseOwnership
from support_service.platform.settings.process import LimitSettings
from support_service.stream.service import ChangeStream

TICKET = {"id": "case-1", "customerId": "customer-1", "assignedAgentId": None, "team": None, "version": 1}


def published_change(number: int) -> str:
    head = {"id": f"event-{number}", "type": "support.case.updated.v1", "time": "2026-05-12T09:00:00Z"}
    return json.dumps({**head, "data": {"changeType": "case.changed", "ticket": TICKET}})


async def owners(case_ids):
    """Return that each case is of the customer that its events name."""
    return dict.fromkeys(case_ids, CaseOwnership("customer-1", None, None))


def make_stream(log, instruments, timings, *, mask=lambda case: case, read_owners=owners) -> ChangeStream:
    """Return a stream of the changes in a log, which masks cases by `mask`."""
    masker, cases = SimpleNamespace(mask_published_case=mask), SimpleNamespace(read_owners=read_owners)
    return ChangeStream(log, masker, cases, instruments, LimitSettings(), timings=timings)
