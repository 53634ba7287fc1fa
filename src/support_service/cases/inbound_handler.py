"""Handler of events from other services: updates the open cases that refer to the order, payment or shipment."""

from datetime import datetime

from support_service.cases.model.case import Message
from support_service.cases.recorder import CaseRecorder
from support_service.cases.sql import case_rows
from support_service.core.clock import time_after
from support_service.core.domain.case_vocabulary import BOT
from support_service.core.ids import new_id
from support_service.events.consumer import ApplyOutcome, begin_applying, record_progress
from support_service.events.inbound_events import InboundEvent
from support_service.platform.database import Database
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, unit_of_work


class InboundEventHandler:
    """Applies inbound events to cases.

    Each case gets a message and a new timeline epoch, so that its timeline is fetched again.
    """

    def __init__(self, database: Database, recorder: CaseRecorder, batch_size: int = 100) -> None:
        """`batch_size` is the number of cases per transaction, so that many cases are locked only briefly."""
        self._database = database
        self._batch_size = batch_size
        self._recorder = recorder

    async def apply(self, event: InboundEvent) -> ApplyOutcome:
        """Add a bot message to each open case that the event concerns, exactly once.

        Return `applied` if a case got a message, `duplicate` if the event was applied before, otherwise `unmatched`.
        The event's id and progress are stored in the same transactions: if the work stops between two pages, a retry
        continues with the second page.
        """
        applied, duplicate = 0, True
        while True:
            page = await self._add_to_next_cases(event)
            if page is None:
                break
            duplicate = False
            applied += page
            if page < self._batch_size:
                break
        return "applied" if applied else "duplicate" if duplicate else "unmatched"

    async def _add_to_next_cases(self, event: InboundEvent) -> int | None:
        """Add the message to the next page of cases; return their number, or None if the event is already applied."""
        assert event.data is not None  # noqa: S101 - the caller skips events of unknown types
        async with unit_of_work(self._database, SYSTEM_ORIGIN) as work:
            after = await begin_applying(work.tx, event)
            if after is None:
                return None
            found = await case_rows.lock_cases_with_references(
                work.tx, event.data.references(), after, self._batch_size
            )
            messages = [_to_bot_message(case.id, event, time_after(case.latest)) for case in found]
            await case_rows.add_bot_messages(work.tx, found, messages)
            real = sum(not case.synthetic for case in found)
            await self._recorder.record_bot_messages(work, messages, real)
            more = len(found) == self._batch_size
            if more or after:  # most events need one page only, and their row is marked as applied from the start
                await record_progress(work.tx, event, found[-1].seq if found else after, is_done=not more)
        return len(found)


def _to_bot_message(case_id: str, event: InboundEvent, at: datetime) -> Message:
    assert event.data is not None  # noqa: S101 - see above
    return Message.model_construct(
        id=new_id(),
        ticket_id=case_id,
        author_type="bot",
        author_id=BOT,
        message=event.data.message_text(),
        attachment_uri=None,
        sentiment=None,
        visibility="public",
        metadata={"eventId": event.id, "eventType": event.type} | event.data.to_json_members(),
        created_at=at,
    )
