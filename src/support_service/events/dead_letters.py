"""Dead letters of inbound events: on-call lists them, and replays or drops one; each change is in the audit log."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from support_service.core.clock import utc_now
from support_service.core.errors import SupportError, problem
from support_service.events.broker.base import ENTRY_ID_PATTERN, MAX_SHOWN_CHARACTERS, Broker, BrokerError, DeadLetter
from support_service.platform.audit import log as audit
from support_service.platform.database import Database
from support_service.platform.unit_of_work import WriteOrigin, unit_of_work


class DeadLetterService:
    """The dead letters of one stream. Every method raises Unavailable while the broker is unavailable."""

    def __init__(self, database: Database, broker: Broker, stream: str) -> None:
        self._database = database
        self._broker = broker
        self._stream = stream

    async def page(self, after: str, limit: int) -> tuple[list[DeadLetter], bool]:
        """Return up to `limit` dead letters after the id `after`, oldest first, and whether there are more."""
        with _broker_errors_as_unavailable():
            found = await self._broker.dead_letters(self._stream, limit + 1, after)
        return found[:limit], len(found) > limit

    async def replay(self, origin: WriteOrigin, letter_id: str) -> None:
        """Move a dead letter back to the end of its stream."""
        await self._change_with_audit_entry(origin, letter_id, "dead-letter.replayed")

    async def drop(self, origin: WriteOrigin, letter_id: str) -> None:
        """Delete a dead letter."""
        await self._change_with_audit_entry(origin, letter_id, "dead-letter.dropped")

    async def _change_with_audit_entry(self, origin: WriteOrigin, letter_id: str, action: audit.Action) -> None:
        """Replay or drop a dead letter in the transaction of its audit entry.

        The broker comes last, shortly before the commit. An entry without its change, or a repeat of a change, would be
        worse than a change whose entry the database then refuses. The dead letter is read before it, so that an
        unavailable broker holds no transaction.
        """
        with _broker_errors_as_unavailable():
            if (
                not re.fullmatch(ENTRY_ID_PATTERN, letter_id)
                or await self._broker.find_dead_letter(self._stream, letter_id) is None
            ):
                raise _letter_not_found(letter_id)
            async with unit_of_work(self._database, origin) as work:
                # Not the event nor the reason, which may hold personal data: entries of no case are never erased.
                await audit.record(work, None, action, utc_now(), {"deadLetterId": (letter_id, None)})
                change = self._broker.replay if action == "dead-letter.replayed" else self._broker.delete_dead_letters
                if not await change(self._stream, [letter_id]):
                    raise _letter_not_found(letter_id)


@contextmanager
def _broker_errors_as_unavailable() -> Iterator[None]:
    try:
        yield
    except BrokerError as failure:
        raise problem("broker_unavailable", "The Redis of events does not answer; try again later.") from failure


def shown_event(letter: DeadLetter) -> tuple[str, bool]:
    """Return the beginning of a dead letter's event as text, and whether it is longer."""
    text = letter.event.decode(errors="replace")
    return text[:MAX_SHOWN_CHARACTERS], len(text) > MAX_SHOWN_CHARACTERS


def _letter_not_found(letter_id: str) -> SupportError:
    return problem("dead_letter_not_found", f"There is no dead letter {letter_id[:64]!r}.")
