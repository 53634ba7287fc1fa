"""The format of Server-Sent Events, read from bytes as they arrive."""

from collections.abc import Iterator
from dataclasses import dataclass

from support_service.client.errors import UnexpectedAnswer

MAX_LINE_BYTES = 16 * 1024 * 1024  # bytes of one line; more is not an event of the service


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
            if event := self._read(line.removesuffix(b"\r").decode(errors="replace")):
                yield event

    def _read(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._finish()
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

    def _finish(self) -> ServerSentEvent | None:
        """Return the event that an empty line ends, unless only comments were before it."""
        finished, self._event = self._event, ServerSentEvent()
        finished.data, self._data = "\n".join(self._data), []
        return None if finished == ServerSentEvent() else finished
