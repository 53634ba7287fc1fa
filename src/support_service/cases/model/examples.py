"""One realistic example of each model that clients see, all out of one case: a parcel that is late. Pure data."""

from typing import Any

from support_service.cases.clocks.case_clocks import SHOWN_CLOCKS_EXAMPLE as SLA
from support_service.core.domain.upstream_services import SERVICE_BY_KIND, UPSTREAM_SERVICES

Example = dict[str, Any]

CASE_ID = "0b6f7c0e-6a3c-4a0e-9d0f-6f0c2f6a9b11"
MESSAGE_ID = "f3a4c1d2-58b6-4e0f-8f5e-2f8d1c7b9a30"
ATTACHMENT_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
EXTERNAL_ID = "<5e1f7a@mail.example>"
SENT_AT = "2026-05-12T08:29:41.000000Z"
CONTEXT = [{"type": "order", "orderId": "ORD-1001"}, {"type": "shipment", "shipmentId": "SHP-1001"}]

NEW_MESSAGE: Example = {
    "authorType": "customer",
    "message": "The tracking page has not moved for five days. Where is my parcel?",
    "sentiment": "negative",
}
NEW_CASE: Example = {
    "subject": "Parcel has not arrived",
    "description": "Order ORD-1001 should have come on Monday.",
    "customerId": "CUS-42",
    "channel": "email",
    "priority": "high",
    "context": CONTEXT,
    "tags": ["delivery"],
    "initialMessage": NEW_MESSAGE,
}
CASE_CHANGE: Example = {"priority": "urgent", "assignedAgentId": "agent-7", "tags": ["delivery", "vip"]}
STATUS_CHANGE: Example = {"status": "pending", "assignedAgentId": "agent-7"}
CLOSING: Example = {
    "message": "The carrier found the parcel; it was handed over this morning.",
    "authorType": "agent",
    "assignedAgentId": "agent-7",
}

MESSAGE: Example = {
    "id": MESSAGE_ID,
    "ticketId": CASE_ID,
    "authorId": "CUS-42",
    "attachmentUri": None,
    "attachmentIds": [],
    "metadata": None,
    "visibility": "public",
    "externalId": EXTERNAL_ID,
    "sentAt": SENT_AT,
    "createdAt": "2026-05-12T08:30:00.125000Z",
} | NEW_MESSAGE
CASE_SUMMARY: Example = {
    "id": CASE_ID,
    "subject": "Parcel has not arrived",
    "description": "Order ORD-1001 should have come on Monday.",
    "customerId": "CUS-42",
    "status": "open",
    "priority": "high",
    "channel": "email",
    "assignedAgentId": "agent-7",
    "team": "deliveries",
    "context": CONTEXT,
    "tags": ["delivery"],
    "externalId": EXTERNAL_ID,
    "sentAt": SENT_AT,
    "snoozedUntil": None,
    "createdAt": "2026-05-12T08:30:00.125000Z",
    "updatedAt": "2026-05-12T09:02:11.480000Z",
}
LAST_CUSTOMER_MESSAGE: Example = {"text": NEW_MESSAGE["message"], "at": "2026-05-12T08:30:00.125000Z"}
LISTED_CASE: Example = CASE_SUMMARY | {
    "waitingSince": "2026-05-12T08:30:00.125000Z",
    "lastMessageAt": "2026-05-12T08:30:00.125000Z",
    "lastCustomerMessage": LAST_CUSTOMER_MESSAGE,
    "sla": SLA,
}
ATTACHMENT: Example = {
    "id": ATTACHMENT_ID,
    "ticketId": CASE_ID,
    "filename": "label.png",
    "contentType": "image/png",
    "sizeBytes": 48213,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "visibility": "public",
    "uri": f"/support/cases/{CASE_ID}/attachments/{ATTACHMENT_ID}/label.png",
    "createdAt": "2026-05-12T08:41:07.302000Z",
}
LINK: Example = {
    "id": "5d0c7a52-2a0b-4f36-9c1e-0f7b0f7f6c21",
    "kind": "related",
    "caseId": "9a4e2f0b-71c3-4a55-8d52-3a1d4be0c7f8",
    "createdAt": "2026-05-12T09:02:11.480000Z",
}
NEW_LINK: Example = {name: LINK[name] for name in ("kind", "caseId")}
SPLIT: Example = {"messageIds": [MESSAGE_ID], "subject": "Refund of the second parcel"}
MERGE: Example = {"into": LINK["caseId"]}
CASE: Example = CASE_SUMMARY | {
    "waitingSince": "2026-05-12T08:30:00.125000Z",
    "messages": [MESSAGE],
    "moreMessages": False,
    "timeline": [
        {
            "type": "order",
            "timestamp": "2026-05-08T10:00:00Z",
            "origin": "order",
            "source": "order-service",
            "orderId": "ORD-1001",
            "status": "shipped",
            "total": 84.5,
        },
        {
            "type": "conversation",
            "timestamp": SENT_AT,
            "origin": "case",
            "authorType": "customer",
            "message": NEW_MESSAGE["message"],
            "attachmentUri": None,
            "sentiment": "negative",
            "metadata": None,
            "visibility": "public",
        },
        {
            "type": "case-event",
            "timestamp": "2026-05-12T09:02:11.480000Z",
            "origin": "case",
            "action": "case.changed",
            "actor": "lan",
            "changes": {"assignedAgentId": [None, "agent-7"]},
        },
    ],
    "moreCaseEvents": False,
    "attachments": [ATTACHMENT],
    "links": [LINK],
    "sla": SLA,
    "timelineSources": {each: {"status": "fresh", "ageSeconds": 0.0, "reason": None} for each in UPSTREAM_SERVICES}
    | {
        "payment": {"status": "cached", "ageSeconds": 41.2, "reason": None},
        "fulfillment": {"status": "unavailable", "ageSeconds": None, "reason": "timeout"},
    },
}
CASE_PAGE: Example = {"items": [LISTED_CASE], "nextCursor": "rT0mV2Yw3kq9sJb1XzQ5n8L-uE7cHfA4dGpO6iW_xR"}
CUSTOMER_PAGE: Example = {
    "customerId": "CUS-42",
    "identities": ["CUS-42"],
    "name": "Anna Berger",
    "contacts": [{"kind": "email", "value": "anna@example.org", "label": None}],
    "notes": None,
    "cases": [LISTED_CASE],
    "references": {f"{kind}s": list[str]() for kind in SERVICE_BY_KIND}
    | {"orders": ["ORD-1001"], "shipments": ["SHP-1001"]},
    "files": [ATTACHMENT],
    "moreFiles": False,
    "nextCursor": None,
}
WORKLOAD: Example = {"agentId": "agent-7", "open": 4, "pending": 2, "resolved": 11, "closed": 96}
AUDIT_ENTRY: Example = {
    "at": "2026-05-12T09:02:11.480000Z",
    "actor": "lan",
    "role": "agent",
    "action": "case.changed",
    "requestId": "5f0c1b9a7e3d2c48",
    "changes": {"priority": ["high", "urgent"]},
    "position": 1834,
    "hash": "0f343b0931126a20f133d67c2b018a3b5c1f4a9d8e7c6b5a4f3e2d1c0b9a8877",
}
AUDIT_PAGE: Example = {"items": [AUDIT_ENTRY], "nextCursor": None}
