"""The stream of changes: what it yields, its format, and how it goes on after a broken connection."""

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import datetime

import aiohttp
from pydantic import Field, ValidationError

from support_service.cases.model.case import ApiModel, CaseSummary, ListedCase, Message, Viewer
from support_service.cases.model.published import CASE_CLOSED, CASE_OPENED, CASE_SLA_BREACHED, CASE_UPDATED
from support_service.client.errors import NoAnswer, UnexpectedAnswer
from support_service.client.operations import Operations, forget_unsent
from support_service.client.retries import UNLIMITED, Attempts
from support_service.client.transport import Request
from support_service.core.errors import SupportError
from support_service.desk.notification_models import Notification

STREAM_PATH = ("support", "stream")
MAX_LINE_BYTES = 16 * 1024 * 1024  # bytes of one line; more is not an event of the service
RESYNC_EVENT = "resync"


class Change(ApiModel):
    """A change of a case; `position` is where the stream goes on after it, `type` the type of the CloudEvent.

    After a broken connection a change may come twice, with the same `event_id`.
    """

    position: str = ""
    type: str = ""
    case_id: str
    version: int
    change_type: str
    at: datetime
    event_id: str | None = None
    actor: str | None = Field(default=None, description="who made the change, if the caller may know")
    case: ListedCase | CaseSummary | None = Field(default=None, description="the case as lists show it")
    message: Message | None = Field(default=None, description="the message that was added, if the caller may read it")


class Presence(ApiModel):
    """Who has a case open now."""

    case_id: str
    viewers: list[Viewer]


@dataclass(frozen=True, slots=True)
class Resync:
    """Changes were missed, because the position is not known any more: read again what you keep of the service."""

    position: str | None


StreamItem = Change | Notification | Presence | Resync
MODELS: dict[str, type[Change | Notification | Presence]] = {  # by the type of the event; others are left out
    **dict.fromkeys((CASE_OPENED, CASE_UPDATED, CASE_CLOSED, CASE_SLA_BREACHED), Change),
    "notification": Notification,
    "presence": Presence,
}


@dataclass(slots=True)
class ServerSentEvent:
    """An event; `id` is None if it has none, `retry` is in seconds."""

    event: str = "message"
    data: str = ""
    id: str | None = None
    retry: float | None = None


class EventParser:
    """Splits the bytes of a stream into events. Comments and unknown fields are left out."""

    def __init__(self) -> None:
        self._rest = b""
        self._event = ServerSentEvent()
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that are complete. Raises UnexpectedAnswer if a line is too long."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise UnexpectedAnswer("unexpected_answer", "a line of the stream is too long")
        for line in lines:
            if event := self._read_line(line.removesuffix(b"\r").decode(errors="replace")):
                yield event

    def _read_line(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._complete_event()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event.event = value
        elif name == "id" and "\0" not in value:
            self._event.id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self._event.retry = int(value) / 1000
        return None

    def _complete_event(self) -> ServerSentEvent | None:
        """Return the event that an empty line ends, unless only comments were before it."""
        finished, self._event = self._event, ServerSentEvent()
        finished.data, self._data = "\n".join(self._data), []
        return None if finished == ServerSentEvent() else finished


class StreamOperations(Operations):
    """The stream of changes."""

    async def stream(
        self, *, after: str | None = None, give_up_after: float | None = None
    ) -> AsyncGenerator[StreamItem, None]:
        """Yield changes of cases as they happen, the caller's notifications, who has a case open, and Resync.

        Resync comes where changes were missed. Events of types that this client does not know are left out. `after` is
        the position of a change: the stream begins with the one after it. After a broken connection the stream goes on
        from its position. Without a connection for `give_up_after` seconds it raises the last SupportError; by default
        it never gives up. A refusal, such as Forbidden, is raised at once.
        """
        position, pause = after, 0.0
        attempts = Attempts(self._transport.timings, deadline=give_up_after or UNLIMITED, attempts=UNLIMITED)
        while True:
            try:
                async for event in self._events_of_connection(position):
                    attempts.note_progress()
                    if event.id is not None or event.event == RESYNC_EVENT:
                        position = event.id
                    pause = pause if event.retry is None else event.retry
                    if (item := _parse_item(event, position)) is not None:
                        yield item
                raise NoAnswer("the service ended the stream")
            except SupportError as failure:
                await attempts.wait_after(failure, at_least=pause)

    async def _events_of_connection(self, position: str | None) -> AsyncGenerator[ServerSentEvent, None]:
        """Yield the events of one connection, and an event without data for its beginning."""
        timings = self._transport.timings
        headers = {"Accept": "text/event-stream"} | ({} if position is None else {"Last-Event-ID": position})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=timings.connect, sock_read=timings.silence)
        parser = EventParser()
        async with self._transport.open(Request("GET", STREAM_PATH, headers=headers), timeout) as response:
            yield ServerSentEvent()
            async for chunk in response.content.iter_any():
                for event in parser.feed(chunk):
                    yield event


def _parse_item(event: ServerSentEvent, position: str | None) -> StreamItem | None:
    if event.event == RESYNC_EVENT:
        return Resync(position)
    model = MODELS.get(event.event)
    if model is None or not event.data:
        return None
    try:
        item = model.model_validate_json(event.data)
    except ValidationError as failure:
        raise UnexpectedAnswer("unexpected_answer", f"an event {event.event} has an unknown form") from failure
    forget_unsent(item)
    if isinstance(item, Change):
        item.position, item.type = event.id or "", event.event
    return item
