"""Changes of a case as the service publishes them, and the owner of the case."""

import json

from support_service.core.domain.principals import CaseOwnership

TICKET = {"id": "case-1", "customerId": "customer-1", "assignedAgentId": None, "team": None, "version": 1}


def published_change(number: int) -> str:
    """Return a published event."""
    head = {"id": f"event-{number}", "type": "support.case.updated.v1", "time": "2026-05-12T09:00:00Z"}
    return json.dumps({**head, "data": {"changeType": "case.changed", "ticket": TICKET}})


async def owners(case_ids):
    """Return that each case is of the customer that its events name."""
    return dict.fromkeys(case_ids, CaseOwnership("customer-1", None, None))
