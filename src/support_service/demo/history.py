"""The cases of the demo that have a past: imported, so that their messages have the times at which they were sent.

Scenarios say what customers ask and what agents answer. Each is used for several customers and orders.
"""

import random
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import normalize

from support_service.attachments.storage import configured_storages
from support_service.cases.known_agents import KnownAgents
from support_service.core.domain.principals import ANONYMOUS, SYSTEM
from support_service.core.errors import SupportError
from support_service.demo.services import OrderPast
from support_service.desk.agent_models import AgentChange
from support_service.desk.agents import AgentDirectory
from support_service.importing.entries import Entry
from support_service.importing.files import ImportedFiles
from support_service.importing.imported_case import keep_as_it_is
from support_service.importing.importer import Importer
from support_service.platform.database.shared import open_database
from support_service.platform.settings import Settings
from support_service.platform.unit_of_work import WriteOrigin, unit_of_work
from support_service.reports.counters import add_to_counters
from support_service.reports.measures import Occurrence, counters_of


class ScenarioLine(NamedTuple):
    """A message: its author (an internal note is by `note`), its text, and the minutes since the one before."""

    author: str
    text: str
    minutes: int = 0


class Scenario(NamedTuple):
    """A conversation; `{order}` and `{product}` are replaced. `reached`: how many stages the order has reached."""

    subject: str
    team: str
    tags: tuple[str, ...]
    lines: tuple[ScenarioLine, ...]
    channel: str = "email"
    priority: str = "normal"
    reached: int = 5


PRODUCTS = ("rice cooker", "desk lamp", "running shoes", "coffee grinder", "rain jacket", "headphones", "office chair")
CASE_COUNT, RECENT_CASES = 75, 30  # all cases, and those of the last four days
PEOPLE: Mapping[str, Mapping[str, Any]] = {  # without authentication, the user of the console is ANONYMOUS
    ANONYMOUS.id: {"displayName": "An Võ", "teams": ["deliveries", "payments", "returns"], "role": "supervisor"},
    "agent-lan": {"displayName": "Lan Nguyễn", "teams": ["deliveries", "payments"], "role": "agent"},
    "agent-minh": {"displayName": "Minh Phạm", "teams": ["returns"], "role": "agent"},
    "agent-thao": {"displayName": "Thảo Lê", "teams": ["deliveries", "returns"], "role": "agent"},
    "agent-jonas": {"displayName": "Jonas Weber", "teams": ["payments"], "role": "agent", "away": True},
}
CUSTOMERS = (
    *("Nguyễn Thị Hoa", "Trần Văn Bình", "Anna Berger", "Lê Thu Hà", "David Okafor", "Phạm Quốc Anh", "Maria Rossi"),
    *("Vũ Ngọc Mai", "James Carter", "Đặng Thùy Linh", "Sofia Almeida", "Hoàng Minh Đức", "Ngô Bảo Châu", "Eva Novak"),
    *("Bùi Thanh Tâm", "Liam Murphy", "Đỗ Gia Huy", "Aisha Rahman", "Phan Kim Ngân", "Lucas Martin", "Tô Hải Yến"),
)
FIRST_CUSTOMER, FIRST_ORDER = 10, 1100  # numbers
STATUS_CHOICES = ("open", "open", "open", "pending", "pending", "resolved", "closed")
FINISHED_CHOICES = ("resolved", "closed", "closed", "closed")


async def import_history(settings: Settings, folder: Path, documents: Sequence[Mapping[str, Any]]) -> None:
    """Store the cases, unless they are there, what reports count of them, and the people who work on them."""
    async with open_database(settings.database, pool_size=1) as database:
        storage = next(iter(configured_storages(settings.attachments, settings.s3).values()))
        files = ImportedFiles(folder, storage, settings.attachments)
        importer = Importer(database, files, WriteOrigin(SYSTEM), refuse=_raise_refusal)
        await importer.run(_to_entries(documents), keep_as_it_is)
        if not importer.totals.imported:
            return
        async with unit_of_work(database, WriteOrigin(SYSTEM)) as work:
            await add_to_counters(work.tx, counters_of(_occurrences_of(documents)))
        directory = AgentDirectory(database, KnownAgents(database))
        for agent_id, person in PEOPLE.items():
            await directory.change(WriteOrigin(SYSTEM), agent_id, AgentChange.model_validate(person))


def _raise_refusal(_: Entry, failure: SupportError) -> None:
    raise failure


async def _to_entries(documents: Iterable[Mapping[str, Any]]) -> AsyncIterator[Entry]:
    for number, document in enumerate(documents, 1):
        yield Entry(number, 1, document)


def _occurrences_of(documents: Iterable[Mapping[str, Any]]) -> Iterator[Occurrence]:
    """Yield what reports would have counted: an import counts nothing."""
    for each in documents:
        labels = each["team"] or "", each["assignedAgentId"] or "", each["channel"]
        opened = datetime.fromisoformat(each["sentAt"])
        yield Occurrence("opened", opened, opened, *labels)
        if answers := [
            one for one in each["messages"] if (one["authorType"], one["visibility"]) == ("agent", "public")
        ]:
            yield Occurrence("answered", datetime.fromisoformat(answers[0]["sentAt"]), opened, *labels)
        if "closedAt" in each:
            yield Occurrence("solved", datetime.fromisoformat(each["closedAt"]), opened, *labels)


def sample_orders(documents: Iterable[Mapping[str, Any]]) -> dict[str, OrderPast]:
    """Return the pasts of the orders of the cases, by their ids."""
    return {
        each["context"][0]["orderId"]: OrderPast(datetime.fromisoformat(each["sentAt"]), scenario.reached)
        for each, scenario in zip(documents, cycle(SCENARIOS), strict=False)
    }


def customer_record(number: int) -> dict[str, Any]:
    """Return the name and the contacts of a sample customer."""
    name = CUSTOMERS[(number - FIRST_CUSTOMER) % len(CUSTOMERS)]
    plain = normalize("NFKD", name.replace("Đ", "D").replace("đ", "d")).encode("ascii", "ignore").decode()
    contacts = {"email": f"{plain.lower().replace(' ', '.')}@example.org", "phone": f"+84 90 555 {number:04d}"}
    return {"name": name, "contacts": [{"kind": kind, "value": value} for kind, value in contacts.items()]}


def sample_history(now: datetime) -> list[dict[str, Any]]:
    """Return the cases of the last month as an import takes them, oldest first. The same call gives the same cases."""
    draw = random.Random("demo")
    return [_sample_case(number, now, draw) for number in range(CASE_COUNT)]


def _sample_case(number: int, now: datetime, draw: random.Random) -> dict[str, Any]:
    scenario = SCENARIOS[number % len(SCENARIOS)]
    order, product = f"ORD-{FIRST_ORDER + number}", draw.choice(PRODUCTS)
    newer = CASE_COUNT - number
    lines = scenario.lines[: draw.randint(1, len(scenario.lines))] if newer < RECENT_CASES else scenario.lines
    # The oldest case is a month old, the newest one some minutes; no message is in the future.
    opened = now - timedelta(minutes=newer * (6 * newer + 20) + sum(line.minutes for line in lines))
    waiting_choices = STATUS_CHOICES[: 1 if len(lines) == 1 else 5]
    choices = waiting_choices if lines[-1].author == "customer" else STATUS_CHOICES
    status = draw.choice(choices if newer < RECENT_CASES else FINISHED_CHOICES)
    is_taken = len(lines) > 1 or draw.random() < 0.3
    messages = _sample_messages(lines, opened, order, product)
    customer = draw.randint(FIRST_CUSTOMER, FIRST_CUSTOMER + len(CUSTOMERS) - 1)
    ending: dict[str, Any] = {}
    if status in FINISHED_CHOICES:
        ending = {"closedAt": messages[-1]["sentAt"]}
    elif status == "pending" and number % 2:
        ending = {"snoozedUntil": (now + timedelta(hours=draw.randint(3, 60))).isoformat()}
    case = ending | {
        "externalId": f"demo-{number}",
        "subject": _fill_placeholders(scenario.subject, order, product.capitalize()),
        "customerId": f"customer-{customer}",
        "customer": customer_record(customer),
        "channel": scenario.channel,
        "priority": scenario.priority,
        "status": status,
        "team": scenario.team if is_taken or draw.random() < 0.5 else None,
        "assignedAgentId": draw.choice([*PEOPLE]) if is_taken else None,
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
        reached=4,
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
        reached=2,
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
        reached=3,
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
