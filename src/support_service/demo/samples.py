"""Sample cases, opened through the API like a client's, and what colleagues and customers do in them."""

import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from support_service.cases.clocks import case_clocks
from support_service.cases.clocks.clock_tracker import StartedClocks
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.model.requests import CaseChange, NewMessage, StatusChange
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
from support_service.core.clock import utc_now
from support_service.core.domain.principals import ANONYMOUS, Principal, Role
from support_service.core.errors import UserError
from support_service.demo.history import customer_record
from support_service.platform.database import Database
from support_service.platform.database.tables import tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, WriteOrigin, unit_of_work
from support_service.service import Service


def draw_cracked_screen(width: int, height: int) -> bytes:
    """Return a PNG image of a dark screen with cracks that start at one point."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)  # no filter
        for x in range(width):
            dx, dy = x - width * 0.65, y - height * 0.35
            turns = (math.atan2(dy, dx) / math.tau + 0.02 * math.sin(math.hypot(dx, dy) / 18)) * 11
            is_crack = abs(turns - round(turns)) * math.hypot(dx, dy) < 2.5 or math.hypot(dx, dy) < 7
            rows += b"\xe8\xee\xf4" if is_crack else bytes((20 + x // 16, 30 + y // 8, 60 + y // 4))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


SAMPLE_CASES: tuple[NewCaseFields, ...] = (
    {
        "subject": "Parcel has not arrived",
        "description": "The tracking page has not changed for three days.",
        "customer_id": "customer-17",
        "channel": "email",
        "priority": "high",
        "team": "deliveries",
        "tags": ["delivery", "late"],
        "context": [{"type": "order", "orderId": "ORD-1001"}],
        "initial_message": {"author_type": "customer", "message": "Where is my parcel?", "sentiment": "negative"},
    },
    {
        "subject": "Parcel has not arrived again",
        "customer_id": "customer-17",
        "channel": "chat",
        "priority": "high",
        "team": "deliveries",
        "initial_message": {"author_type": "customer", "message": "I wrote an e-mail as well. Where is ORD-1001?"},
    },
    {
        "subject": "Đơn hàng giao thiếu một món",
        "customer_id": "customer-23",
        "channel": "chat",
        "team": "deliveries",
        "tags": ["delivery", "vi"],
        "context": [{"type": "order", "orderId": "ORD-1002"}, {"type": "shipment", "shipmentId": "SHP-1002"}],
        "initial_message": {"author_type": "customer", "message": "Tôi nhận được hai trong ba món đã đặt."},
    },
    {
        "subject": "Charged twice",
        "customer_id": "customer-31",
        "channel": "phone",
        "priority": "urgent",
        "assigned_agent_id": "agent-lan",
        "team": "payments",
        "tags": ["payment", "refund", "vip"],
        "context": [{"type": "order", "orderId": "ORD-1003"}, {"type": "payment", "paymentId": "PAY-1003"}],
        "initial_message": {"author_type": "agent", "message": "The customer called: two charges of the same amount."},
    },
    {
        "subject": "How do I change my delivery address?",
        "customer_id": "guest-8812",
        "channel": "web",
        "priority": "low",
        "assigned_agent_id": ANONYMOUS.id,
        "team": "deliveries",
        "tags": ["address"],
        "context": [{"type": "order", "orderId": "ORD-1004"}],
        "initial_message": {"author_type": "customer", "message": "I have moved since I ordered."},
    },
    {
        "subject": "Screen arrived cracked",
        "customer_id": "customer-29",
        "channel": "mobile",
        "priority": "high",
        "assigned_agent_id": "agent-minh",
        "team": "returns",
        "tags": ["damaged", "return"],
        "context": [{"type": "order", "orderId": "ORD-1005"}],
        "initial_message": {"author_type": "customer", "message": "Photos are attached.", "sentiment": "negative"},
    },
    {
        "subject": "Two questions about ORD-1006",
        "customer_id": "customer-12",
        "channel": "email",
        "assigned_agent_id": ANONYMOUS.id,
        "team": "payments",
        "tags": ["payment"],
        "context": [{"type": "order", "orderId": "ORD-1006"}],
        "initial_message": {"author_type": "customer", "message": "Which card did I pay ORD-1006 with?"},
    },
)
# How many stages each order has reached when its customer writes.
SAMPLE_ORDERS = {"ORD-1001": 4, "ORD-1002": 5, "ORD-1003": 2, "ORD-1004": 3, "ORD-1005": 5, "ORD-1006": 5}
SAMPLE_FILES = {  # by subject: name, type and content
    "Parcel has not arrived": ("tracking.txt", "text/plain", b"VN000001001  in transit  no scan for 72 h\n"),
    "Screen arrived cracked": ("màn hình vỡ.png", "image/png", draw_cracked_screen(320, 240)),
}
AUTH_STATUSES = (401, 403)  # statuses for an unknown caller and for one without permission
DUPLICATE_SUBJECT, ORIGINAL_SUBJECT = "Parcel has not arrived again", "Parcel has not arrived"
CHARGED_SUBJECT, SNOOZED_SUBJECT = "Charged twice", "How do I change my delivery address?"
SPLIT_SUBJECT, SPLIT_OFF_SUBJECT = "Two questions about ORD-1006", "Invoice for ORD-1006"
NAMED_CUSTOMERS, OTHER_ID_OF_PERSON = (12, 17, 23, 29, 31), "guest-8812"
WITH_CLOCKS_WITHIN = timedelta(hours=9)  # imported cases that are younger than this get clocks
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
SAMPLE_REPLIES = {  # by subject: the agent and the text
    CHARGED_SUBJECT: ("agent-lan", "We see one captured payment and one hold; the hold falls away within three days."),
    STALE_CASE_SUBJECT: ("agent-minh", "A replacement is on its way."),
}


async def open_samples(client: SupportClient, service: Service) -> list[CaseSummary]:
    """Open the samples that a service does not have, and return all its cases, the newest first.

    Raises UserError if the service refuses a request.
    """
    with _refusals_explained():
        for name, policy in SAMPLE_POLICIES.items():
            await client.put_sla_policy(name, **policy)
        imported = await _read_cases(client)
        known = {case.external_id for case in imported}
        is_new = not any(f"sample-{number}" in known for number in range(len(SAMPLE_CASES)))
        for number, sample in enumerate(SAMPLE_CASES):
            if (external_id := f"sample-{number}") not in known:
                await _open_sample(client, service, {**sample, "external_id": external_id})
        ids = {case.subject: case.id for case in await _read_cases(client)}
        await client.add_link(ids[DUPLICATE_SUBJECT], ids[ORIGINAL_SUBJECT], "duplicate-of")
        for name, macro in SAMPLE_MACROS.items():
            await client.put_macro(name, **macro)
        if is_new:
            await _start_clocks(client, service.database, imported)
            await _do_what_agents_do(client, service, ids)
        return await _read_cases(client)


async def make_source_stale(client: SupportClient, cases: Iterable[CaseSummary]) -> None:
    """Read a sample's timeline, and again when one of its sources has failed: what it said first is stale now.

    Raises UserError if the service refuses a request.
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
        raise UserError(f"The sample cases can't be opened{who}: {failure}") from failure


async def _read_cases(client: SupportClient) -> list[CaseSummary]:
    return [case async for case in client.list_cases(page_size=200)]


async def _open_sample(client: SupportClient, service: Service, sample: NewCaseFields) -> None:
    case = await client.open_case(**sample)
    subject = sample["subject"]
    if subject in SAMPLE_FILES:
        filename, content_type, data = SAMPLE_FILES[subject]
        await client.upload(case.id, data, filename=filename, content_type=content_type)
    if subject in SAMPLE_REPLIES:
        agent, reply = SAMPLE_REPLIES[subject]
        await _write(service, agent, case.id, message=reply)
        await service.cases.set_status(_origin_of(agent), case.id, StatusChange(status="pending"))


async def _write(service: Service, author: str, case_id: str, role: Role = "supervisor", **message: Any) -> None:
    """Write a message as somebody else than the user of the demo, who is told of it then."""
    author_type = "customer" if role == "customer" else "agent"
    new = NewMessage.model_validate({"author_type": author_type} | message, by_name=True)
    await service.cases.add_message(_origin_of(author, role), case_id, new)


def _origin_of(person: str, role: Role = "supervisor") -> WriteOrigin:
    return WriteOrigin(Principal(person, role, subject=person))


async def _do_what_agents_do(client: SupportClient, service: Service, ids: dict[str, str]) -> None:
    """Merge ids of a person, snooze and split cases, save views, and mention the user of the demo."""
    for number in NAMED_CUSTOMERS:
        await client.put_customer(f"customer-{number}", **customer_record(number))
    await client.merge_customer(OTHER_ID_OF_PERSON, "customer-17")
    await client.set_status(ids[SNOOZED_SUBJECT], "pending", until=utc_now() + timedelta(hours=18))
    second = await client.add_message(
        ids[SPLIT_SUBJECT], author_type="customer", message="And please send me an invoice for my company."
    )
    await client.split_case(ids[SPLIT_SUBJECT], [second.id], SPLIT_OFF_SUBJECT)
    await client.create_view(
        "Urgent and unassigned", {"status": "open", "priority": "urgent", "assigned_agent_id": "none"}
    )
    await client.create_view("Refunds", {"status": ["open", "pending"], "tag": ["refund"]}, team="payments")
    charged = ids[CHARGED_SUBJECT]
    question = f"@{ANONYMOUS.id} The bank wants the authorization code of the hold. Can you get it from the provider?"
    await _write(service, "agent-lan", charged, message=question, visibility="internal")
    await _write(service, "customer-31", charged, "customer", message="My bank still shows both charges.")
    given = CaseChange.model_validate({"assigned_agent_id": ANONYMOUS.id}, by_name=True)
    await service.cases.change_case(_origin_of("agent-thao"), ids[ORIGINAL_SUBJECT], given)
    note = "@returns Third cracked screen of this batch. Please stop it in the warehouse."
    await _write(service, "agent-minh", ids[STALE_CASE_SUBJECT], message=note, visibility="internal")


async def _start_clocks(client: SupportClient, database: Database, cases: Iterable[CaseSummary]) -> None:
    """Give new cases that were imported the clocks that they would have: an import starts none."""
    policies = KnownPolicies(database)
    await policies.refresh()
    for each in cases:
        policy = policies.policy_for_new_case(each)
        if each.status != "open" or policy is None or each.created_at < utc_now() - WITH_CLOCKS_WITHIN:
            continue
        messages = [one for one in (await client.get_case(each.id)).messages if one.visibility == "public"]
        clocks = case_clocks.clocks_of_new_case(policy.terms, each.created_at, "customer")
        for number, message in enumerate(messages[1:]):
            wrote = (
                case_clocks.clocks_after_agent_message
                if message.author_type == "agent"
                else partial(case_clocks.clocks_after_customer_message, is_answered=number > 0)
            )
            clocks = wrote(policy.terms, clocks, message.created_at)
        started = StartedClocks(policy, clocks)
        async with unit_of_work(database, SYSTEM_ORIGIN) as work:
            due = {"sla_policy": policy.id, "sla_due_at": started.first_due}
            await work.tx.execute(tickets.update().where(tickets.c.id == each.id).values(due))
            await started.insert(work.tx, each.id)
