"""The results of calls to upstream services, and the limits of what one timeline receives from a service."""

import asyncio
from dataclasses import dataclass, replace
from typing import Literal

import aiohttp

from support_service.timeline.merge import Entry

MAX_ANSWER_BYTES = 1024 * 1024  # bytes of all answers of one source for one timeline


@dataclass(frozen=True, slots=True)
class CallFailure:
    """Why a call gave no entries: the stage that failed, and a short reason. `stage` is None if no call was made."""

    stage: Literal["http", "aggregate"] | None
    reason: str


@dataclass(frozen=True, slots=True)
class SourceAnswer:
    """The result of one call; `outcome` is a value of SOURCE_OUTCOMES."""

    outcome: str
    entries: list[Entry]
    failure: CallFailure | None = None
    good: bool | None = True  # whether the service is healthy; None if the answer says nothing about it
    note: str | None = None  # what the readers of the timeline should know about a complete answer


NOT_FOUND = SourceAnswer("not_found", [])


def rejected_id(status: int) -> SourceAnswer:
    """Return the answer of a service that rejects the id asked for: it has nothing under that id, as after a 404."""
    return replace(NOT_FOUND, note=f"id rejected with status {status}")


def failed_answer(
    outcome: str, stage: Literal["http", "aggregate"] | None, reason: str, *, good: bool | None
) -> SourceAnswer:
    """Return the answer of a failed call, without entries."""
    return SourceAnswer(outcome, [], CallFailure(stage, reason), good)


DEADLINE_EXCEEDED = failed_answer("open", "http", "timeout", good=None)  # the deadline passed while the call waited


class TimelineBudget:
    """The limits of one timeline at one source: bytes that it may still receive, and concurrent calls."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self.slots = slots
        self._bytes_left = MAX_ANSWER_BYTES

    def take(self, size: int) -> bool:
        """Count received bytes; return whether they are within the limit of `MAX_ANSWER_BYTES`."""
        self._bytes_left -= size
        return self._bytes_left >= 0


async def read_body(response: aiohttp.ClientResponse, budget: TimelineBudget) -> bytes | None:
    """Read the body; return None as soon as it exceeds the timeline's limit."""
    chunks = []
    async for chunk in response.content.iter_any():
        if not budget.take(len(chunk)):
            return None
        chunks.append(chunk)
    return b"".join(chunks)
