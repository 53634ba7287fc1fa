"""What a case still says when its customer was erased, and the statements that make it so."""

import hashlib
from typing import Any

import pydantic_core
import sqlalchemy as sa

from support_service.core.ids import LENGTH
from support_service.database import Reader, Transaction
from support_service.database.tables import messages, ticket_references, tickets

ERASED = "[erased]"
ERASED_BYTES = 256  # of a message as JSON that says no more than that
# What of an event's data may hold what a customer said; everything else says what happened, and when.
TEXTS = frozenset({"subject", "message", "filename"})
DROPPED = frozenset({"description", "customerId", "attachmentUri", "metadata", "sentiment", "uri", "sha256"})
LISTS = frozenset({"context", "tags"})


def tombstone(customer_id: str) -> str:
    """What stands for a customer until the erasure is done everywhere: one that was cut off finds its cases by it."""
    return f"erasing-{hashlib.sha256(customer_id.encode()).hexdigest()}"[:LENGTH]


def erased_event(event: str) -> str:
    """An event that says what happened to its case, and nothing of the customer."""
    document = pydantic_core.from_json(event)
    document["data"] = _erased(document["data"])  # around it nothing is the customer's: its `subject` is the case's id
    return pydantic_core.to_json(document).decode()


def _erased(value: Any) -> Any:
    if isinstance(value, list):
        return [_erased(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: _member(name, member) for name, member in value.items()}


def _member(name: str, value: Any) -> Any:
    if value is None or name in DROPPED:
        return "" if name in ("uri", "sha256") and value is not None else None
    if name in LISTS:
        return []
    return ERASED if name in TEXTS else _erased(value)


async def cases_of(reader: Reader, customer_id: str) -> list[str]:
    """The ids of a customer's cases, those of an erasure that was cut off among them."""
    named = tickets.c.customer_id.in_([customer_id, tombstone(customer_id)])
    return [row[0] for row in await reader.fetch_all(sa.select(tickets.c.id).where(named).order_by(tickets.c.seq))]


async def erase(tx: Transaction, case_id: str, mark: str) -> int:
    """Let a case say nothing of its customer, whom a mark stands for from now on; gives how many messages it has."""
    erased = await tx.execute(
        messages.update()
        .where(messages.c.ticket_id == case_id)
        .values(message=ERASED, attachment_uri=None, sentiment=None, metadata=None)
    )
    await tx.execute(
        tickets.update()
        .where(tickets.c.id == case_id)
        .values(
            subject=ERASED,
            description=None,
            customer_id=mark,
            context=[],
            tags=[],
            search_text="",
            conversation_bytes=erased * ERASED_BYTES,
            timeline_epoch=tickets.c.timeline_epoch + 1,  # what is cached of it is not told any more
        )
    )
    await tx.execute(ticket_references.delete().where(ticket_references.c.ticket_id == case_id))
    return erased


async def forget(tx: Transaction, mark: str) -> None:
    """Let nothing stand for the customer any more: the erasure is done everywhere."""
    nobody = {"customer_id": None, "version": tickets.c.version + 1}  # whoever has seen the mark sees that it went
    await tx.execute(tickets.update().where(tickets.c.customer_id == mark).values(nobody))
