"""Arrivals: what an event of another service does to the open cases that name its order, payment or shipment."""

from datetime import UTC, datetime
from typing import Literal

from support_service.audit import log as audit
from support_service.cases import store
from support_service.cases.model import Message
from support_service.core.ids import new_id
from support_service.database import Database
from support_service.events import inbox, outbox
from support_service.events.inbound_events import Event
from support_service.telemetry.instruments import Instruments
from support_service.telemetry.labels import SYNTHETIC

PAGE = 100  # cases in one transaction: an event that concerns thousands holds no lock and no memory for long


class Arrivals:
    """Tells cases of events; with its message each case gets a new epoch, so that its timeline is collected anew."""

    def __init__(self, database: Database, instruments: Instruments) -> None:
        self._database = database
        self._instruments = instruments

    async def apply(self, event: Event) -> Literal["applied", "unmatched", "duplicate"]:
        """Add a bot's message to each open case that the event concerns, exactly once.

        The event's id is kept in the same transactions, and with it how far it has come: what is interrupted between
        two pages goes on with the second.
        """
        told, known = 0, True
        while True:
            page = await self._next_page(event)
            if page is None:
                break
            known = False
            told += page
            if page < PAGE:
                break
        return "applied" if told else "duplicate" if known else "unmatched"

    async def _next_page(self, event: Event) -> int | None:
        """Tell the next cases; gives how many, None where the event has taken effect already."""
        assert event.data is not None  # noqa: S101 - an event of an unknown type comes here never
        at = datetime.now(UTC)
        async with self._database.transaction() as tx:
            after = await inbox.begin(tx, event)
            if after is None:
                return None
            found = await store.concerned(tx, event.data.references(), after, PAGE)
            messages = [_message(case_id, event, at) for _, case_id, _ in found]
            await store.tell(tx, messages)
            changes = [
                (each.ticket_id, {"changeType": "conversation.added", "conversation": each}) for each in messages
            ]
            await outbox.append_all(tx, outbox.UPDATED, at, changes)
            said = [(each.ticket_id, {"messageId": (None, each.id), "authorType": (None, "bot")}) for each in messages]
            await audit.record_all(tx, "message.added", at, said)
            more = len(found) == PAGE
            if more or after:  # one page is all there is to most events, and their row says so from the start
                await inbox.reached(tx, event, found[-1][0] if found else after, done=not more)
        real = sum(channel != SYNTHETIC for _, _, channel in found)
        if real:
            self._instruments.conversation_added.add(real, {"author_type": "bot"})
        return len(found)


def _message(case_id: str, event: Event, at: datetime) -> Message:
    assert event.data is not None  # noqa: S101 - see above
    return Message.model_construct(
        id=new_id(),
        ticket_id=case_id,
        author_type="bot",
        message=event.data.sentence(),
        attachment_uri=None,
        sentiment=None,
        visibility="public",
        metadata={"eventId": event.id, "eventType": event.type} | event.data.fields(),
        created_at=at,
    )
