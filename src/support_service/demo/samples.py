"""Sample cases, opened through the API like a client's."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from support_service.client import (
    CaseSummary,
    MacroFields,
    NewCaseFields,
    PolicyFields,
    PolicyMatch,
    PolicyTargets,
    SupportClient,
    SupportError,
)
from support_service.platform.settings import WrongSetting

SAMPLE_CASES: tuple[NewCaseFields, ...] = (
    {
        "subject": "Parcel has not arrived",
        "description": "The tracking page has not changed for three days.",
        "customer_id": "customer-17",
        "channel": "email",
        "priority": "high",
        "context": [{"type": "order", "orderId": "ORD-1001"}],
        "initial_message": {"author_type": "customer", "message": "Where is my parcel?", "sentiment": "negative"},
    },
    {
        "subject": "Parcel has not arrived again",
        "customer_id": "customer-17",
        "channel": "chat",
        "priority": "high",
        "context": [{"type": "order", "orderId": "ORD-1001"}],
        "initial_message": {"author_type": "customer", "message": "I wrote an e-mail as well. Where is ORD-1001?"},
    },
    {
        "subject": "Đơn hàng giao thiếu một món",
        "customer_id": "customer-23",
        "channel": "chat",
        "context": [{"type": "order", "orderId": "ORD-1002"}, {"type": "shipment", "shipmentId": "SHP-1002"}],
        "initial_message": {"author_type": "customer", "message": "Tôi nhận được hai trong ba món đã đặt."},
    },
    {
        "subject": "Charged twice",
        "customer_id": "customer-31",
        "channel": "phone",
        "priority": "urgent",
        "assigned_agent_id": "agent-lan",
        "context": [{"type": "order", "orderId": "ORD-1003"}, {"type": "payment", "paymentId": "PAY-1003"}],
        "initial_message": {"author_type": "agent", "message": "The customer called: two charges of the same amount."},
    },
    {
        "subject": "How do I change my delivery address?",
        "customer_id": "customer-17",
        "channel": "web",
        "priority": "low",
        "assigned_agent_id": "agent-lan",
        "initial_message": {"author_type": "customer", "message": "I have moved since I ordered."},
    },
    {
        "subject": "Screen arrived cracked",
        "customer_id": "customer-42",
        "channel": "mobile",
        "priority": "high",
        "assigned_agent_id": "agent-minh",
        "context": [{"type": "order", "orderId": "ORD-1005"}],
        "initial_message": {"author_type": "customer", "message": "Photos are attached.", "sentiment": "negative"},
    },
)
SAMPLE_FILES = {
    "Parcel has not arrived": ("tracking.txt", "VN000001001  in transit  no scan for 72 h\n"),
    "Screen arrived cracked": ("màn hình vỡ.txt", "A photo would be here; this is a demonstration.\n"),
}
AUTH_STATUSES = (401, 403)  # statuses for an unknown caller and for one without permission
DUPLICATE_SUBJECT, ORIGINAL_SUBJECT = "Parcel has not arrived again", "Parcel has not arrived"
STALE_CASE_SUBJECT = "Screen arrived cracked"  # the simulated fulfillment service stops answering about its order
# Soon enough that a new demo has clocks that are at risk, and after two minutes one that is late.
SAMPLE_POLICIES: dict[str, PolicyFields] = {
    "05-chat": {
        "match": PolicyMatch(channel=["chat"]),
        "targets": PolicyTargets(first_response=timedelta(minutes=2), resolution=timedelta(hours=4)),
    },
    "10-urgent": {
        "match": PolicyMatch(priority=["high", "urgent"]),
        "targets": PolicyTargets(
            first_response=timedelta(minutes=30), next_response=timedelta(hours=1), resolution=timedelta(hours=8)
        ),
    },
    "90-others": {
        "targets": PolicyTargets(
            first_response=timedelta(hours=1), next_response=timedelta(hours=8), resolution=timedelta(days=3)
        )
    },
}
SAMPLE_MACROS: dict[str, MacroFields] = {
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


async def open_samples(client: SupportClient) -> list[CaseSummary]:
    """Open the samples that a service does not have, and return all its cases, the newest first.

    Raises WrongSetting if the service refuses a request.
    """
    with _refusals_explained():
        for name, policy in SAMPLE_POLICIES.items():
            await client.put_sla_policy(name, **policy)
        known = {case.external_id for case in await _read_cases(client)}
        for number, sample in enumerate(SAMPLE_CASES):
            if (external_id := f"sample-{number}") not in known:
                await _open_sample(client, {**sample, "external_id": external_id})
        ids = {case.subject: case.id for case in await _read_cases(client)}
        await client.add_link(ids[DUPLICATE_SUBJECT], ids[ORIGINAL_SUBJECT], "duplicate-of")
        for name, macro in SAMPLE_MACROS.items():
            await client.put_macro(name, **macro)
        return await _read_cases(client)


async def make_source_stale(client: SupportClient, cases: Iterable[CaseSummary]) -> None:
    """Read a sample's timeline, and again when one of its sources has failed: what it said first is stale now.

    Raises WrongSetting if the service refuses a request.
    """
    case_id = next(case.id for case in cases if case.subject == STALE_CASE_SUBJECT)
    with _refusals_explained():
        await client.get_case(case_id, include_timeline=True)
        await client.refresh_timeline(case_id)


@contextmanager
def _refusals_explained() -> Iterator[None]:
    try:
        yield
    except SupportError as failure:
        who = " with SUPPORT_TOKEN" if failure.status in AUTH_STATUSES else ""
        raise WrongSetting(f"The sample cases can't be opened{who}: {failure}") from failure


async def _read_cases(client: SupportClient) -> list[CaseSummary]:
    return [case async for case in client.list_cases(page_size=200)]


async def _open_sample(client: SupportClient, sample: NewCaseFields) -> None:
    case = await client.open_case(**sample)
    subject = sample["subject"]
    if subject in SAMPLE_FILES:
        filename, text = SAMPLE_FILES[subject]
        await client.upload(case.id, text.encode(), filename=filename, content_type="text/plain")
    if subject in SAMPLE_REPLIES:
        await client.add_message(case.id, author_type="agent", message=SAMPLE_REPLIES[subject])
        await client.set_status(case.id, "pending")
