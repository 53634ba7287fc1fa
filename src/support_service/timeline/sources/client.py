"""The services behind the timeline: how one call is made, and what its answer is worth."""

import asyncio
import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import aiohttp
import pydantic_core
from yarl import URL

from support_service.core.json_limits import has_too_many_parts, nests_too_deep
from support_service.core.references import Service, Wanted
from support_service.telemetry.instruments import Instruments, Reading
from support_service.telemetry.labels import BREAKER_STATES
from support_service.telemetry.traces import outgoing
from support_service.timeline.breaker import Breaker
from support_service.timeline.merge import Entry
from support_service.timeline.sources.calls import CALLS, Call

MAX_BYTES = 1024 * 1024  # of all answers of one source for one timeline
MAX_CALLS = 500  # to one source for one timeline
MAX_NESTED = 128  # levels; the cache wraps an answer in a few more, and its parser ends at 200
QUEUE = 32  # calls that wait for each place at one source; more would only wait in vain
RETRIES = 10.0  # that a source has in stock; each call adds a tenth of one
RETRY_PAUSE = (0.01, 0.05)  # seconds
# No Accept-Encoding: a small body that unpacks to gigabytes can't be told from a good one before it is unpacked.
HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call gave no entries: the stage that failed, and a short reason; no stage where it was not made at all."""

    stage: Literal["http", "aggregate"] | None
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call gave; `outcome` is of labels.OUTCOMES."""

    outcome: str
    entries: list[Entry]
    failure: Failure | None = None
    good: bool | None = True  # whether the service is in order; None where the answer doesn't tell


NOT_FOUND = Answer("not_found", [])


def failed(outcome: str, stage: Literal["http", "aggregate"] | None, reason: str, *, good: bool | None) -> Answer:
    """An answer that gave nothing."""
    return Answer(outcome, [], Failure(stage, reason), good)


TOO_LATE = failed("open", "http", "timeout", good=None)  # the deadline came before the call's turn


class Allowance:
    """What one timeline may have of one source: bytes that may still come in, and calls at once."""

    def __init__(self, places: int) -> None:
        self.places = asyncio.Semaphore(places)
        self._left = MAX_BYTES

    def take(self, size: int) -> bool:
        """Count bytes; says whether they were allowed."""
        self._left -= size
        return self._left >= 0


class SourceClient:
    """One service: bounded in calls at once, in the time of each and in what it may send, behind a circuit breaker."""

    def __init__(
        self,
        name: Service,
        base_url: str,
        session: aiohttp.ClientSession,
        instruments: Instruments,
        *,
        timeout: float,
        connections: int,
    ) -> None:
        self.name = name
        self.breaker = Breaker()
        self._base_url = base_url
        self._session = session
        self._instruments = instruments
        self.timeout = timeout  # seconds, read for each call
        self._connections = connections
        self._places = asyncio.Semaphore(connections)
        self._waiting = 0
        self._retries = RETRIES
        self._log = log.getChild(name)  # a line a minute of each service, as telemetry/logs.py has it

    def allowance(self) -> Allowance:
        """For one timeline, which never takes all places from the others, however much it wants."""
        return Allowance(max(1, self._connections // 2))

    def calls(self, wanted: Wanted) -> tuple[list[Call], str | None]:
        """The calls that bring what a case wants, and a note where that is more than one timeline may make."""
        calls = list(islice(CALLS[self.name](wanted), MAX_CALLS + 1))
        return calls[:MAX_CALLS], f"only the first {MAX_CALLS} calls" if len(calls) > MAX_CALLS else None

    async def fetch(self, call: Call, deadline: float, allowance: Allowance) -> Answer:
        """What one call gives, nothing for a 404; never raises for what the service does.

        The call ends at the source's own timeout, or at `deadline` on the loop's clock if that comes first; the wait
        for a free place is bounded by the deadline alone.
        """
        admission = self.breaker.admit()
        if admission is None:
            return self._told(failed("open", None, "circuit open", good=None))
        answer = failed("open", None, "too many calls", good=None)
        try:
            answer = await self._in_turn(call, deadline, allowance)
        finally:
            self.breaker.report(admission, good=answer.good)
        return self._told(answer)

    def _told(self, answer: Answer) -> Answer:
        if answer.outcome == "open":
            self._instruments.timeline_source.record(0, {"service": self.name, "outcome": "open"})
        if answer.failure and answer.failure.stage:
            self._instruments.timeline_collection_failures.add(1, {"stage": answer.failure.stage})
        return answer

    async def _in_turn(self, call: Call, deadline: float, allowance: Allowance) -> Answer:
        """The call, once it has a place among those of its timeline and then among all of the source."""
        if not await _acquired(allowance.places, deadline):
            return TOO_LATE
        try:
            if self._waiting >= QUEUE * self._connections:
                return failed("open", None, "too many calls", good=None)
            self._waiting += 1
            try:
                if not await _acquired(self._places, deadline):
                    return TOO_LATE
            finally:
                self._waiting -= 1
            try:
                return await self._with_retry(call, deadline, allowance)
            finally:
                self._places.release()
        finally:
            allowance.places.release()

    async def _with_retry(self, call: Call, deadline: float, allowance: Allowance) -> Answer:
        """A call, and a second one where the connection failed before an answer began: asking changes nothing."""
        self._retries = min(RETRIES, self._retries + 0.1)
        answer = await self._once(call, deadline, allowance)
        if answer is not None:
            return answer
        pause = random.uniform(*RETRY_PAUSE)
        # The stock keeps a service that is down from twice its usual load; once it is used up, one call in ten is two.
        if self._retries >= 1 and asyncio.get_running_loop().time() + pause < deadline:
            self._retries -= 1
            await asyncio.sleep(pause)
            answer = await self._once(call, deadline, allowance)
        return answer or failed("error", "http", "connection failed", good=False)

    async def _once(self, call: Call, deadline: float, allowance: Allowance) -> Answer | None:
        """One attempt; None where no connection came about, or it broke before the answer began."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        answer: Answer | None = None
        try:
            async with asyncio.timeout_at(min(started + self.timeout, deadline)):
                answer = await self._ask(call, allowance)
        except TimeoutError:
            # Cut off early by the deadline, a call says nothing about the service.
            took = loop.time() - started
            enough = took >= self.timeout / 2
            self._log.warning("%s did not answer %s within %.2f s", self.name, call.path, took)
            answer = failed("timeout", "http", "timeout", good=False if enough else None)
        except (aiohttp.ClientError, OSError) as failure:
            self._log.warning("%s broke off its answer: %s", self.name, type(failure).__name__)
            answer = failed("error", "http", "connection failed", good=False)
        outcome = answer.outcome if answer else "error"
        self._instruments.timeline_source.record(loop.time() - started, {"service": self.name, "outcome": outcome})
        return answer

    async def _ask(self, call: Call, allowance: Allowance) -> Answer | None:
        url = URL(self._base_url + call.path, encoded=True)  # the reference goes out as it is, percent-encoded
        try:
            response = await self._session.get(url, headers=HEADERS | outgoing(), allow_redirects=False)
        except (aiohttp.ClientConnectionError, OSError) as failure:
            if isinstance(failure, TimeoutError):
                raise
            self._log.warning("%s can't be reached: %s", self.name, type(failure).__name__)
            return None
        async with response:
            status = response.status
            if status == 404:  # noqa: PLR2004 - nothing there, which is an answer
                return NOT_FOUND
            if not 200 <= status < 300:  # noqa: PLR2004 - HTTP's success
                # What one case's reference is refused for must not open the circuit for all others.
                good = False if status >= 500 or status == 429 else None  # noqa: PLR2004
                self._log.warning("%s answered %s with status %d", self.name, call.path, status)
                return failed("error", "http", f"status {status}", good=good)
            body = await _body(response, allowance)
            if body is None:
                response.close()  # what is still to come is not wanted
                return self._off_contract(call, "too large")
        return self._read(call, body)

    def _read(self, call: Call, body: bytes) -> Answer:
        if has_too_many_parts(body):
            return self._off_contract(call, "too large")
        try:
            document = pydantic_core.from_json(body, allow_inf_nan=False)
            entries = call.read(document)
        except ValueError as failure:  # OffContract is one, and so is what JSON's parser raises
            return self._off_contract(call, "unreadable answer", str(failure))
        if nests_too_deep(body, document, MAX_NESTED):
            return self._off_contract(call, "nested too deep")
        return Answer("ok", entries)

    def _off_contract(self, call: Call, reason: str, found: str = "") -> Answer:
        self._log.warning("%s answered %s off the contract: %s", self.name, call.path, found or reason)
        return failed("invalid", "aggregate", reason, good=None)


def breakers(sources: Iterable[SourceClient]) -> Reading:
    """The state of each source's breaker; none is true of a service that is not configured."""
    states = {source.name: source.breaker.state for source in sources}
    return [
        (int(states.get(service) == state), {"service": service, "state": state})
        for service in CALLS
        for state in BREAKER_STATES
    ]


async def _acquired(places: asyncio.Semaphore, deadline: float) -> bool:
    """Wait for a place; says whether one came free in time."""
    if not places.locked():
        return await places.acquire()
    try:
        async with asyncio.timeout_at(deadline):
            return await places.acquire()
    except TimeoutError:
        return False


async def _body(response: aiohttp.ClientResponse, allowance: Allowance) -> bytes | None:
    """The body as it comes in; None once it is more than is allowed."""
    chunks = []
    async for chunk in response.content.iter_any():
        if not allowance.take(len(chunk)):
            return None
        chunks.append(chunk)
    return b"".join(chunks)
