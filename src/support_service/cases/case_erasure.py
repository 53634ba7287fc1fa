"""Erasure of a customer's personal data from cases and their events: the remaining content and the statements."""

import hashlib
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

import pydantic_core
import sqlalchemy as sa

from support_service.cases.model.published import PAYLOAD_BY_EVENT_TYPE
from support_service.cases.sql import search
from support_service.core.domain.case_vocabulary import KNOWN_CONTENT_TYPES, STAFF_AUTHOR_TYPES
from support_service.core.ids import ID_LENGTH
from support_service.core.personal import Erasure, models_in, rules_of
from support_service.platform.database import RowReader, Transaction
from support_service.platform.database.tables import (
    ERASED_TEXT,
    erased_values,
    messages,
    notifications,
    report_changes,
    staged_attachments,
    ticket_references,
    ticket_tags,
    tickets,
)
from support_service.platform.telemetry.instruments import known_or_other

ERASED_MESSAGE_BYTES = 323  # size counted for an erased message, in bytes of JSON


def erase_event(event: str, channels: Collection[str]) -> str:
    """Return a stored event (JSON) without the customer's personal data; the facts about the case stay.

    So do the known `channels`, which say nothing about a person.
    """
    document = pydantic_core.from_json(event)
    known_values_by_member = {"channel": channels, "contentType": KNOWN_CONTENT_TYPES}
    # The envelope has no personal data: its `subject` is the case's id.
    document["data"] = _erased_value(document["data"], known_values_by_member)
    return pydantic_core.to_json(document).decode()


def _erased_value(value: Any, known_values_by_member: Mapping[str, Collection[str]]) -> Any:
    if isinstance(value, list):
        return [_erased_value(each, known_values_by_member) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: None
        if erasure_rules_of_events().get(name) == "customer removed"
        and value.get("authorType") not in STAFF_AUTHOR_TYPES
        else _erased_member(name, member, known_values_by_member)
        for name, member in value.items()
    }


def _erased_member(name: str, value: Any, known_values_by_member: Mapping[str, Collection[str]]) -> Any:
    rule = erasure_rules_of_events().get(name)
    if value is None or rule in (None, "removed"):  # also what another release has written, which nothing is known of
        return None
    if rule == "emptied":
        return "" if isinstance(value, str) else []
    if rule == "replaced if unknown":
        return known_or_other(value, known_values_by_member[name])
    return ERASED_TEXT if rule == "replaced" else _erased_value(value, known_values_by_member)


@cache
def erasure_rules_of_events() -> Mapping[str, Erasure]:
    """Return what an erasure leaves of each member of an event's data. Raises TypeError for one with two rules."""
    rules: dict[str, Erasure] = {}
    for model in models_in(*PAYLOAD_BY_EVENT_TYPE.values()):
        for name, rule in rules_of(model).items():
            member = model.model_fields[name].serialization_alias or name
            if rules.setdefault(member, rule.erasure) != rule.erasure:
                raise TypeError(f"an erasure would leave two things of {member}: give {model.__name__} another name")
    return rules


async def read_case_ids_of_customer(reader: RowReader, customer_id: str) -> list[str]:
    """Return the ids of a customer's cases, oldest first, with the cases of an interrupted erasure."""
    of_customer = sa.select(tickets.c.id).where(_is_of_customer(tickets, customer_id)).order_by(tickets.c.seq)
    return [row.id for row in await reader.fetch_all(of_customer)]


async def read_references_of_customer(reader: RowReader, customer_id: str) -> frozenset[tuple[str, str]]:
    """Return what a customer's cases refer to, as query parameters of a list: (name, value), such as `orderId`."""
    named = ticket_references.c
    of_customer = (
        sa.select(named.kind, named.value)
        .join(tickets, tickets.c.id == named.ticket_id)
        .where(_is_of_customer(tickets, customer_id))
    )
    return frozenset((f"{row.kind}Id", row.value) for row in await reader.fetch_all(of_customer))


async def read_own_labels_of_customer(
    reader: RowReader, customer_id: str, channels: Collection[str]
) -> frozenset[tuple[str, str]]:
    """Return the tags and channels that only a customer's cases have, as query parameters of a list: (name, value).

    The known `channels` are left out.
    """
    other_case, other_tag = tickets.alias(), ticket_tags.alias()
    is_other = sa.or_(other_case.c.customer_id.is_(None), sa.not_(_is_of_customer(other_case, customer_id)))
    tags = (
        sa.select(sa.literal("tag").label("name"), ticket_tags.c.tag.label("value"))
        .join(tickets, tickets.c.seq == ticket_tags.c.seq)
        .where(
            _is_of_customer(tickets, customer_id),
            ~sa.exists().where(other_tag.c.tag == ticket_tags.c.tag, other_case.c.seq == other_tag.c.seq, is_other),
        )
    )
    unknown = sa.select(sa.literal("channel"), tickets.c.channel).where(
        _is_of_customer(tickets, customer_id),
        tickets.c.channel.not_in(channels),
        ~sa.exists().where(other_case.c.channel == tickets.c.channel, is_other),
    )
    return frozenset((row.name, row.value) for row in await reader.fetch_all(tags.union(unknown)))


def _is_of_customer(table: sa.FromClause, customer_id: str) -> sa.ColumnElement[bool]:
    """Return the condition for a customer's cases.

    An interrupted erasure of 0.2.0 has left a hash in place of the id.
    """
    hashed = f"erasing-{hashlib.sha256(customer_id.encode()).hexdigest()}"[:ID_LENGTH]
    return table.c.customer_id.in_([customer_id, hashed])


async def erase_case(tx: Transaction, case_id: str, channels: Collection[str]) -> int:
    """Erase the personal data of a case but the id of its customer; return its number of messages.

    A channel that is not one of the known `channels` is erased too. `release_case` removes the id, and what the case
    refers to. Until then, another run of the erasure finds the case, and what names its objects elsewhere.
    """
    erased = await tx.execute(messages.update().where(messages.c.ticket_id == case_id).values(erased_values(messages)))
    await tx.execute(
        tickets.update()
        .where(tickets.c.id == case_id)
        .values(
            erased_values(tickets, {"channel": channels})
            | {
                "conversation_bytes": erased * ERASED_MESSAGE_BYTES,
                "timeline_epoch": tickets.c.timeline_epoch + 1,  # makes the cached snapshots outdated
            }
        )
    )
    await erase_occurrences(tx, [case_id], channels)
    await tx.execute(notifications.delete().where(notifications.c.case_id == case_id))
    await search.remove_message_documents(tx, case_id)
    return erased


async def release_case(tx: Transaction, case_id: str, version: int) -> bool:
    """Remove the customer's id and the references of an erased case. Return False if it has changed since a version.

    A change is also a file that was staged for the case: it gives the case no version.
    """
    row = await tx.fetch_now(sa.select(tickets.c.version).where(tickets.c.id == case_id).with_for_update())
    if row is None:  # a synthetic case may be deleted meanwhile
        return True
    is_staged = sa.select(staged_attachments.c.id).where(staged_attachments.c.ticket_id == case_id).limit(1)
    if row.version != version or await tx.fetch_now(is_staged):
        return False
    await tx.execute(ticket_references.delete().where(ticket_references.c.ticket_id == case_id))
    # The new version tells clients that read the id that the case has changed.
    values = {"customer_id": None, "version": tickets.c.version + 1}
    await tx.execute(tickets.update().where(tickets.c.id == case_id).values(values))
    return True


async def erase_occurrences(tx: Transaction, case_ids: Collection[str], channels: Collection[str]) -> None:
    """Erase the channel of what happened to cases and is not in the counters of reports yet, unless it is known."""
    erased = erased_values(report_changes, {"channel": channels})
    await tx.execute(report_changes.update().where(report_changes.c.case_id.in_(case_ids)).values(erased))
