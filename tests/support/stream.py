"""A client of the stream of changes, as the specification of Server-Sent Events says."""

import asyncio
import json
from contextlib import suppress
from typing import Any, NamedTuple, Self

import aiohttp

from tests.support.calls import eventually

PATH = "/support/stream"


class Event(NamedTuple):
    """An event of a stream; `id` is the last position that the client knew when the event came."""

    name: str
    data: Any
    id: str


class OpenStream:
    """An open stream and what has come of it."""

    def __init__(self, client: Any, token: str | None = None, **headers: str) -> None:
        self._client = client
        self._headers = headers | ({"Authorization": f"Bearer {token}"} if token else {})
        self.events: list[Event] = []
        self.comments: list[str] = []
        self.retries: list[int] = []
        self.last_id = ""
        self.status = 0
        self.ended = False
        self._task: asyncio.Task[None] | None = None

    @property
    def changes(self) -> list[Event]:
        return [event for event in self.events if event.name.startswith("support.case.")]

    @property
    def resyncs(self) -> list[str]:
        return [event.data["reason"] for event in self.events if event.name == "resync"]

    @property
    def presence(self) -> list[Any]:
        """The data of the events that say who views a case."""
        return [event.data for event in self.events if event.name == "presence"]

    def seen(self) -> list[tuple[str, str]]:
        return [(event.data["caseId"], event.data["changeType"]) for event in self.changes]

    async def __aenter__(self) -> Self:
        started = asyncio.Event()
        self._task = asyncio.create_task(self._read(started))
        await started.wait()
        await eventually(lambda: self.ended or self.retries)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _read(self, started: asyncio.Event) -> None:
        try:
            timeout = aiohttp.ClientTimeout(total=None, sock_read=None)
            async with self._client.get(PATH, headers=self._headers, timeout=timeout) as response:
                self.status = response.status
                started.set()
                if response.status != 200:
                    return
                await self._parse(response.content)
        except aiohttp.ClientError:
            pass  # the server closed the connection
        finally:
            started.set()
            self.ended = True

    async def _parse(self, content: aiohttp.StreamReader) -> None:
        name, data = "message", ""
        while line := await content.readline():
            text = line.decode().removesuffix("\n")
            if not text:
                if data:
                    self.events.append(Event(name, json.loads(data), self.last_id))
                name, data = "message", ""
                continue
            field, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if not field:
                self.comments.append(value)
            elif field == "id":
                self.last_id = value
            elif field == "event":
                name = value
            elif field == "data":
                data += value
            elif field == "retry":
                self.retries.append(int(value))


def follow(client: Any, token: str | None = None, *, after: str | None = None) -> OpenStream:
    """Return a stream, open while it is used in a `with` block; `after` is the position to continue from."""
    return OpenStream(client, token, **({"Last-Event-ID": after} if after else {}))
