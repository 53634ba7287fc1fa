"""The cases of the demo that have a past: imported, so that their messages have the times at which they were sent."""

import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from support_service.attachments.content import UploadLimits
from support_service.attachments.opening import configured_storages
from support_service.core.clock import utc_now
from support_service.core.domain.principals import SYSTEM
from support_service.core.errors import SupportError
from support_service.demo.conversations import PRODUCTS, SCENARIOS, Line
from support_service.importing.entries import Entry
from support_service.importing.files import ImportedFiles
from support_service.importing.imported_case import as_it_is
from support_service.importing.importer import Importer
from support_service.platform.database.opening import open_database
from support_service.platform.idempotency.unit_of_work import WriteOrigin
from support_service.platform.settings import Settings

CASES = 54
AGENTS = ("agent-lan", "agent-minh", "agent-thao")
FIRST_ORDER = 1100
STATUSES = ("open", "open", "open", "pending", "pending", "resolved", "closed")


async def import_history(settings: Settings, folder: Path) -> None:
    """Store the cases, unless they are there. Raises Unavailable if the database can't be used."""
    async with open_database(settings.database, pool_size=1) as database:
        storage = next(iter(configured_storages(settings.attachments, settings.s3).values()))
        files = ImportedFiles(folder, storage, UploadLimits(settings.attachments.max_bytes))
        importer = Importer(database, files, WriteOrigin(SYSTEM), refuse=_fail)
        await importer.run(_entries(), as_it_is)


def _fail(_: Entry, failure: SupportError) -> None:
    raise failure


async def _entries() -> AsyncIterator[Entry]:
    for number, document in enumerate(sample_history(utc_now()), 1):
        yield Entry(number, 1, document)


def sample_history(now: datetime) -> list[dict[str, Any]]:
    """Return the cases as an import takes them, oldest first. The same call gives the same cases."""
    draw = random.Random("demo")
    return [_case(number, now, draw) for number in range(CASES)]


def _case(number: int, now: datetime, draw: random.Random) -> dict[str, Any]:
    scenario = SCENARIOS[number % len(SCENARIOS)]
    order, product = f"ORD-{FIRST_ORDER + number}", draw.choice(PRODUCTS)
    told = scenario.lines[: draw.randint(1, len(scenario.lines))]
    # The oldest case is a week old, the newest one some minutes; no message is in the future.
    opened = now - timedelta(minutes=(CASES - number) ** 2 * 3 + sum(line.minutes for line in told) + 4)
    status = draw.choice(STATUSES) if told[-1].author != "customer" else draw.choice(STATUSES[:5])
    is_taken = len(told) > 1 or draw.random() < 0.3
    messages = _messages(told, opened, order, product)
    finished = {"closedAt": messages[-1]["sentAt"]} if status in ("resolved", "closed") else {}
    return finished | {
        "externalId": f"demo-{number}",
        "subject": _fill(scenario.subject, order, product.capitalize()),
        "customerId": f"customer-{draw.randint(10, 40)}",
        "channel": scenario.channel,
        "priority": scenario.priority,
        "status": status,
        "team": scenario.team if is_taken or draw.random() < 0.5 else None,
        "assignedAgentId": draw.choice(AGENTS) if is_taken else None,
        "tags": list(scenario.tags),
        "context": [{"type": "order", "orderId": order}],
        "sentAt": opened.isoformat(),
        "messages": messages,
    }


def _messages(lines: tuple[Line, ...], opened: datetime, order: str, product: str) -> list[dict[str, Any]]:
    at, messages = opened, []
    for line in lines:
        at += timedelta(minutes=line.minutes)
        is_note = line.author == "note"
        messages.append(
            {
                "authorType": "agent" if is_note else line.author,
                "visibility": "internal" if is_note else "public",
                "message": _fill(line.text, order, product),
                "sentAt": at.isoformat(),
            }
        )
    return messages


def _fill(text: str, order: str, product: str) -> str:
    return text.format(order=order, product=product)
