"""The cases of the demo that have a past: imported, so that their messages have the times at which they were sent.

Scenarios say what customers ask and what agents answer. Each is used for several customers and orders.
"""

import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from support_service.attachments.opening import configured_storages
from support_service.cases.known_agents import KnownAgents
from support_service.core.clock import utc_now
from support_service.core.domain.principals import SYSTEM
from support_service.core.errors import SupportError
from support_service.desk.agent_models import AgentChange
from support_service.desk.agents import AgentDirectory
from support_service.importing.entries import Entry
from support_service.importing.files import ImportedFiles
from support_service.importing.imported_case import keep_as_it_is
from support_service.importing.importer import Importer
from support_service.platform.database.opening import open_database
from support_service.platform.settings import Settings
from support_service.platform.unit_of_work import WriteOrigin


class ScenarioLine(NamedTuple):
    """A message: its author (an internal note is by `note`), its text, and the minutes since the one before."""

    author: str
    text: str
    minutes: int = 0


class Scenario(NamedTuple):
    """A conversation; `{order}` and `{product}` are replaced."""

    subject: str
    team: str
    tags: tuple[str, ...]
    lines: tuple[ScenarioLine, ...]
    channel: str = "email"
    priority: str = "normal"


PRODUCTS = ("rice cooker", "desk lamp", "running shoes", "coffee grinder", "rain jacket", "headphones", "office chair")
CASE_COUNT = 54
AGENTS = {"agent-lan": "Lan Nguyễn", "agent-minh": "Minh Phạm", "agent-thao": "Thảo Lê"}
FIRST_ORDER_NUMBER = 1100
STATUS_CHOICES = ("open", "open", "open", "pending", "pending", "resolved", "closed")


async def import_history(settings: Settings, folder: Path) -> None:
    """Store the cases, unless they are there, and the names of the agents.

    Raises Unavailable if the database can't be used.
    """
    async with open_database(settings.database, pool_size=1) as database:
        storage = next(iter(configured_storages(settings.attachments, settings.s3).values()))
        files = ImportedFiles(folder, storage, settings.attachments)
        importer = Importer(database, files, WriteOrigin(SYSTEM), refuse=_raise_refusal)
        await importer.run(_sample_entries(), keep_as_it_is)
        directory = AgentDirectory(database, KnownAgents(database))
        for agent_id, name in AGENTS.items():
            await directory.change(WriteOrigin(SYSTEM), agent_id, AgentChange.model_validate({"displayName": name}))


def _raise_refusal(_: Entry, failure: SupportError) -> None:
    raise failure


async def _sample_entries() -> AsyncIterator[Entry]:
    for number, document in enumerate(sample_history(utc_now()), 1):
        yield Entry(number, 1, document)


def sample_history(now: datetime) -> list[dict[str, Any]]:
    """Return the cases as an import takes them, oldest first. The same call gives the same cases."""
    draw = random.Random("demo")
    return [_sample_case(number, now, draw) for number in range(CASE_COUNT)]


def _sample_case(number: int, now: datetime, draw: random.Random) -> dict[str, Any]:
    scenario = SCENARIOS[number % len(SCENARIOS)]
    order, product = f"ORD-{FIRST_ORDER_NUMBER + number}", draw.choice(PRODUCTS)
    lines = scenario.lines[: draw.randint(1, len(scenario.lines))]
    # The oldest case is a week old, the newest one some minutes; no message is in the future.
    opened = now - timedelta(minutes=(CASE_COUNT - number) ** 2 * 3 + sum(line.minutes for line in lines) + 4)
    status = draw.choice(STATUS_CHOICES) if lines[-1].author != "customer" else draw.choice(STATUS_CHOICES[:5])
    is_taken = len(lines) > 1 or draw.random() < 0.3
    messages = _sample_messages(lines, opened, order, product)
    finished = {"closedAt": messages[-1]["sentAt"]} if status in ("resolved", "closed") else {}
    case = finished | {
        "externalId": f"demo-{number}",
        "subject": _fill_placeholders(scenario.subject, order, product.capitalize()),
        "customerId": f"customer-{draw.randint(10, 40)}",
        "channel": scenario.channel,
        "priority": scenario.priority,
        "status": status,
        "team": scenario.team if is_taken or draw.random() < 0.5 else None,
        "assignedAgentId": draw.choice([*AGENTS]) if is_taken else None,
        "tags": list(scenario.tags),
        "context": [{"type": "order", "orderId": order}],
        "sentAt": opened.isoformat(),
        "messages": messages,
    }
    for message in messages:
        if message["authorType"] == "agent":
            message["authorId"] = case["assignedAgentId"]
    return case


def _sample_messages(
    lines: tuple[ScenarioLine, ...], opened: datetime, order: str, product: str
) -> list[dict[str, Any]]:
    at, messages = opened, []
    for line in lines:
        at += timedelta(minutes=line.minutes)
        is_note = line.author == "note"
        messages.append(
            {
                "authorType": "agent" if is_note else line.author,
                "visibility": "internal" if is_note else "public",
                "message": _fill_placeholders(line.text, order, product),
                "sentAt": at.isoformat(),
            }
        )
    return messages


def _fill_placeholders(text: str, order: str, product: str) -> str:
    return text.format(order=order, product=product)


SCENARIOS = (
    Scenario(
        "Where is order {order}?",
        "deliveries",
        ("delivery",),
        (
            ScenarioLine(
                "customer",
                "Hello, the tracking page of {order} has not changed since Monday. When will my {product} come?",
            ),
            ScenarioLine("note", "Carrier portal: the parcel is in the hub in Da Nang, no scan for two days.", 35),
            ScenarioLine(
                "agent", "Thank you for writing. The parcel is in the carrier's hub. The carrier looks for it.", 9
            ),
            ScenarioLine("customer", "Thanks. I need it by Friday, is that realistic?", 210),
        ),
    ),
    Scenario(
        "Charged twice for {order}",
        "payments",
        ("payment", "refund"),
        (
            ScenarioLine("customer", "My bank shows two charges for {order}. I ordered one {product}, not two!"),
            ScenarioLine(
                "agent", "We see one captured payment and one hold. The hold falls away within three days.", 22
            ),
            ScenarioLine("customer", "It is still there after four days.", 5900),
        ),
        "chat",
        "high",
    ),
    Scenario(
        "Đơn {order} giao thiếu một món",
        "deliveries",
        ("delivery", "vi"),
        (
            ScenarioLine("customer", "Chào shop, tôi nhận được hai trong ba món của đơn {order}. Thiếu món {product}."),
            ScenarioLine("agent", "Chào anh/chị, kho đã gửi món còn thiếu sáng nay. Xin lỗi vì sự bất tiện này.", 41),
            ScenarioLine("customer", "Cảm ơn shop, tôi sẽ đợi.", 15),
        ),
        "chat",
    ),
    Scenario(
        "{product} arrived broken",
        "returns",
        ("return", "damaged"),
        (
            ScenarioLine(
                "customer", "The {product} of {order} came with a crack along one side. The box was wet. What now?"
            ),
            ScenarioLine(
                "agent",
                "We are sorry. Please keep the box and send us two photos, then we send a replacement at once.",
                18,
            ),
            ScenarioLine("customer", "Photos are attached. The second one shows the box.", 75),
            ScenarioLine("note", "Third wet box from the same depot this week: tell the warehouse.", 4),
        ),
        "web",
        "high",
    ),
    Scenario(
        "Change of address for {order}",
        "deliveries",
        ("address",),
        (
            ScenarioLine("customer", "I moved last week. Can {order} go to my new address, 12 Tran Phu, Hue?"),
            ScenarioLine("agent", "We changed it before the parcel left. You get a new confirmation in a moment.", 12),
            ScenarioLine("customer", "Perfect, thank you!", 8),
        ),
        "web",
    ),
    Scenario(
        "Refund for a return of {order}",
        "returns",
        ("refund", "return"),
        (
            ScenarioLine("customer", "I sent the {product} back eight days ago. When do I get my money for {order}?"),
            ScenarioLine(
                "note", "The return was scanned yesterday, the refund is not started. Payments, please check.", 50
            ),
        ),
        priority="high",
    ),
    Scenario(
        "Invoice for {order}",
        "payments",
        ("invoice",),
        (
            ScenarioLine("customer", "Please send me an invoice for {order} with our VAT number VN0312345678."),
            ScenarioLine("agent", "The invoice is on its way to this address. Is there anything else?", 95),
            ScenarioLine("customer", "No, all good.", 240),
        ),
    ),
    Scenario(
        "Voucher is not accepted",
        "payments",
        ("voucher",),
        (
            ScenarioLine(
                "customer",
                "The voucher from your newsletter says “not valid” at the checkout. It ends tonight, please help.",
            ),
        ),
        "chat",
        "urgent",
    ),
    Scenario(
        "Tôi muốn đổi cỡ cho đơn {order}",
        "returns",
        ("exchange", "vi"),
        (
            ScenarioLine("customer", "Tôi đặt {product} cỡ M nhưng hơi chật. Tôi đổi sang cỡ L được không?"),
            ScenarioLine(
                "agent", "Được ạ. Anh/chị gửi lại trong 14 ngày, chúng tôi gửi cỡ L ngay khi nhận được hàng.", 33
            ),
        ),
        "mobile",
    ),
    Scenario(
        "Parcel says delivered, but nothing is here",
        "deliveries",
        ("delivery", "lost"),
        (
            ScenarioLine(
                "customer", "The app says {order} was delivered at 14:10. I was at home the whole day and nobody came!"
            ),
            ScenarioLine("agent", "The driver names a neighbour, Mr. Binh. Could you ask there?", 28),
            ScenarioLine("customer", "There is no Mr. Binh in this house.", 47),
            ScenarioLine("note", "Signature does not match. Opened an inquiry with the carrier, 48 h.", 6),
            ScenarioLine("agent", "We have opened an inquiry with the carrier. You hear from us within 48 hours.", 2),
            ScenarioLine("customer", "Any news? The 48 hours are over.", 3000),
        ),
        "phone",
        "urgent",
    ),
    Scenario(
        "Wrong colour in {order}",
        "returns",
        ("exchange",),
        (
            ScenarioLine("customer", "I ordered the {product} in blue and got green. Order {order}."),
            ScenarioLine(
                "agent", "That was our mistake. A blue one leaves today; the courier takes the green one back.", 16
            ),
            ScenarioLine("customer", "Great service!", 1500),
        ),
        "social",
        "low",
    ),
    Scenario(
        "How long is the warranty?",
        "returns",
        ("question",),
        (
            ScenarioLine("customer", "Hi! How long is the warranty, and do I need the receipt? It was {order}."),
            ScenarioLine("agent", "Two years, and your order number is enough.", 140),
        ),
        "web",
        "low",
    ),
)
