"""Sample cases, opened through the API like a client's."""

from collections.abc import Mapping
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
SAMPLE_REPLIES = {
    "Charged twice": "We see one captured payment and one hold; the hold falls away within three days.",
    "Screen arrived cracked": "A replacement is on its way.",
}


async def open_samples(address: str, headers: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the cases of a service, after opening the samples if it has none.

    Raises WrongSetting if the service refuses a request.
    """
    async with aiohttp.ClientSession(address, headers=headers, raise_for_status=_expect_good) as session:
        if not await _cases(session):
            for sample in SAMPLE_CASES:
                await _open(session, sample)
        return await _cases(session)


async def _expect_good(response: aiohttp.ClientResponse) -> None:
    if not response.ok:
        answer = await response.json() if "json" in response.content_type else {}
        reason = answer.get("detail") or f"the service answered {response.status}"
        who = " with SUPPORT_TOKEN" if response.status in AUTH_STATUSES else ""
        raise WrongSetting(f"The sample cases can't be opened{who}: {reason}")


async def _cases(session: aiohttp.ClientSession) -> list[dict[str, Any]]:
    async with session.get("/support/cases") as response:
        items: list[dict[str, Any]] = (await response.json())["items"]
        return items


async def _open(session: aiohttp.ClientSession, sample: dict[str, Any]) -> None:
    async with session.post("/support/cases", json=sample) as response:
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
