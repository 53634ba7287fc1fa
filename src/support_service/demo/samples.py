"""Sample cases, opened through the API like a client's."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import aiohttp

from support_service.settings import WrongSetting

SAMPLE_CASES: tuple[dict[str, Any], ...] = (
    {
        "subject": "Parcel has not arrived",
        "description": "The tracking page has not changed for three days.",
        "customerId": "customer-17",
        "channel": "email",
        "priority": "high",
        "context": [{"type": "order", "orderId": "ORD-1001"}],
        "initialMessage": {"authorType": "customer", "message": "Where is my parcel?", "sentiment": "negative"},
    },
    {
        "subject": "Parcel has not arrived again",
        "customerId": "customer-17",
        "channel": "chat",
        "priority": "high",
        "context": [{"type": "order", "orderId": "ORD-1001"}],
        "initialMessage": {"authorType": "customer", "message": "I wrote an e-mail as well. Where is ORD-1001?"},
    },
    {
        "subject": "Đơn hàng giao thiếu một món",
        "customerId": "customer-23",
        "channel": "chat",
        "context": [{"type": "order", "orderId": "ORD-1002"}, {"type": "shipment", "shipmentId": "SHP-1002"}],
        "initialMessage": {"authorType": "customer", "message": "Tôi nhận được hai trong ba món đã đặt."},
    },
    {
        "subject": "Charged twice",
        "customerId": "customer-31",
        "channel": "phone",
        "priority": "urgent",
        "assignedAgentId": "agent-lan",
        "context": [{"type": "order", "orderId": "ORD-1003"}, {"type": "payment", "paymentId": "PAY-1003"}],
        "initialMessage": {"authorType": "agent", "message": "The customer called: two charges of the same amount."},
    },
    {
        "subject": "How do I change my delivery address?",
        "customerId": "customer-17",
        "channel": "web",
        "priority": "low",
        "assignedAgentId": "agent-lan",
        "initialMessage": {"authorType": "customer", "message": "I have moved since I ordered."},
    },
    {
        "subject": "Screen arrived cracked",
        "customerId": "customer-42",
        "channel": "mobile",
        "priority": "high",
        "assignedAgentId": "agent-minh",
        "context": [{"type": "order", "orderId": "ORD-1005"}],
        "initialMessage": {"authorType": "customer", "message": "Photos are attached.", "sentiment": "negative"},
    },
)
SAMPLE_FILES = {
    "Parcel has not arrived": ("tracking.txt", "VN000001001  in transit  no scan for 72 h\n"),
    "Screen arrived cracked": ("màn hình vỡ.txt", "A photo would be here; this is a demonstration.\n"),
}
AUTH_STATUSES = (401, 403)  # statuses for an unknown caller and for one without permission
DUPLICATE, ORIGINAL = "Parcel has not arrived again", "Parcel has not arrived"
STALE = "Screen arrived cracked"  # the simulated fulfillment service stops answering about its order
SAMPLE_MACROS: dict[str, dict[str, Any]] = {
    "late-parcel": {
        "text": "Your order {{order.id}} is {{order.status}}. Follow the parcel as {{shipment.trackingNumber}}.",
        "tags": ["delivery"],
    },
    "refund": {"text": "We have started your refund. It takes up to three working days.", "status": "pending"},
    "thanks": {"text": "Thank you for your patience.", "status": "resolved"},
}
SAMPLE_REPLIES = {
    "Charged twice": "We see one captured payment and one hold; the hold falls away within three days.",
    "Screen arrived cracked": "A replacement is on its way.",
}


async def open_samples(address: str, headers: Mapping[str, str]) -> list[dict[str, Any]]:
    """Open the samples that a service does not have, and return all its cases, the newest first.

    Raises WrongSetting if the service refuses a request.
    """
    async with aiohttp.ClientSession(address, headers=headers, raise_for_status=_expect_good) as session:
        for number, sample in enumerate(SAMPLE_CASES):
            await _open(session, sample | {"externalId": f"sample-{number}"})
        cases = await _cases(session)
        await _link_duplicates(session, cases)
        await _make_stale(session, cases)
        for name, macro in SAMPLE_MACROS.items():
            async with session.put(f"/support/macros/{name}", json=macro):
                pass
        return cases


async def _expect_good(response: aiohttp.ClientResponse) -> None:
    if not response.ok:
        answer = await response.json() if "json" in response.content_type else {}
        reason = answer.get("detail") or f"the service answered {response.status}"
        who = " with SUPPORT_TOKEN" if response.status in AUTH_STATUSES else ""
        raise WrongSetting(f"The sample cases can't be opened{who}: {reason}")


async def _cases(session: aiohttp.ClientSession) -> list[dict[str, Any]]:
    async with session.get("/support/cases", params={"limit": 200}) as response:
        items: list[dict[str, Any]] = (await response.json())["items"]
        return items


async def _open(session: aiohttp.ClientSession, sample: dict[str, Any]) -> None:
    async with session.post("/support/cases", json=sample) as response:
        if response.status != HTTPStatus.CREATED:
            return  # it is there since an earlier start
        case = f"/support/cases/{(await response.json())['id']}"
    subject = sample["subject"]
    if subject in SAMPLE_FILES:
        filename, text = SAMPLE_FILES[subject]
        form = aiohttp.FormData()
        form.add_field("file", text.encode(), filename=filename, content_type="text/plain")
        async with session.post(f"{case}/attachments", data=form):
            pass
    if subject in SAMPLE_REPLIES:
        async with session.post(f"{case}/messages", json={"authorType": "agent", "message": SAMPLE_REPLIES[subject]}):
            pass
        async with session.post(f"{case}/status", params={"status": "pending"}):
            pass


async def _link_duplicates(session: aiohttp.ClientSession, cases: list[dict[str, Any]]) -> None:
    """Mark a customer's second case about the same order as a duplicate of the first one."""
    ids = {case["subject"]: case["id"] for case in cases}
    link = {"kind": "duplicate-of", "caseId": ids[ORIGINAL]}
    async with session.post(f"/support/cases/{ids[DUPLICATE]}/links", json=link):
        pass


async def _make_stale(session: aiohttp.ClientSession, cases: list[dict[str, Any]]) -> None:
    """Read a timeline, and again when one of its sources has failed: what it said first is stale now."""
    case = next(case["id"] for case in cases if case["subject"] == STALE)
    async with session.get(f"/support/cases/{case}", params={"includeTimeline": "true"}):
        pass
    async with session.post(f"/support/cases/{case}/timeline/refresh"):
        pass
