"""SQL that finds a case or a message by the external id that it was sent with; unique indexes find it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from support_service.cases.model.case import Message
from support_service.platform.database import Reader, Transaction
from support_service.platform.database.compiled import compiled
from support_service.platform.database.dialect import insert_if_new
from support_service.platform.database.tables import messages, tickets


class CaseOwner(NamedTuple):
    """The id of a case that exists, and what decides who may see it."""

    id: str
    customer_id: str | None
    assigned_agent_id: str | None
    team: str | None


ADD_CASE_IF_NEW = compiled(insert_if_new(tickets).inline())
FIND_CASE = sa.select(*(tickets.c[name] for name in CaseOwner._fields)).where(
    tickets.c.channel == sa.bindparam("channel"), tickets.c.external_id == sa.bindparam("external_id")
)
FIND_MESSAGE = sa.select(*(messages.c[name] for name in Message.model_fields)).where(
    messages.c.ticket_id == sa.bindparam("case_id"), messages.c.external_id == sa.bindparam("external_id")
)


async def add_case_if_new(tx: Transaction, row: Mapping[str, Any]) -> bool:
    """Insert a row of `tickets`. Return False if its channel has a case with its external id.

    On PostgreSQL this waits for a transaction that is inserting such a case.
    """
    return bool(await tx.execute(ADD_CASE_IF_NEW, row))


async def find_case(reader: Reader, channel: str, external_id: str | None) -> CaseOwner | None:
    """Return the case of a channel with an external id, or None."""
    row = await reader.fetch_one(FIND_CASE, {"channel": channel, "external_id": external_id})
    return CaseOwner(**row._asdict()) if row else None


async def find_message(reader: Reader, case_id: str, external_id: str | None) -> Message | None:
    """Return the message of a case with an external id, or None."""
    row = await reader.fetch_one(FIND_MESSAGE, {"case_id": case_id, "external_id": external_id})
    return Message.model_validate(row._asdict(), by_name=True, by_alias=False) if row else None
