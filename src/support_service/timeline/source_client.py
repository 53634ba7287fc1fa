"""Client of an upstream service: makes calls within limits, and classifies their answers."""

import asyncio
import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import islice
from typing import Literal

import aiohttp
import pydantic_core
from yarl import URL

from support_service.core.domain.references import SourceReferences
from support_service.core.domain.source import Source
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from support_service.core.json_input import exceeds_depth, has_too_many_containers
from support_service.platform.http_client import describe_client_error, limited_session
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec, Observations
from support_service.platform.telemetry.traces import propagation_headers
from support_service.timeline.merge import Entry
from support_service.timeline.source_calls import ANOTHER_ID, UNREADABLE_ANSWER, SourceCall, calls_for
from support_service.timeline.source_health import BreakerTimings, CircuitBreaker, RecentCalls

MAX_ANSWER_BYTES = 1024 * 1024  # bytes of all answers of one source for one timeline
MAX_CALLS = 500  # calls to one source for one timeline
MAX_ANSWER_DEPTH = 128  # levels of an answer; the cache adds a few levels, and its parser allows 200
# The service can't read an id, such as a text where its ids are numbers. Each call has exactly one id, and it alone
# differs between the calls of a kind.
REJECTED_ID_STATUSES = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})
# Calls that may wait per concurrent call of a source; more would reach their deadline while waiting.
MAX_WAITING_PER_CONNECTION = 32
RETRY_BUDGET = 10.0  # maximum retry budget of a source; each call adds a tenth of a retry
RETRY_PAUSE = (0.01, 0.05)  # seconds
# No compression: a small body that expands to gigabytes can't be distinguished from a good one before decompression.
REQUEST_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}

log = logging.getLogger(__name__)

SOURCE_OUTCOMES = ("ok", "not_found", "timeout", "error", "invalid", "open")
BREAKER_STATES = ("closed", "half_open", "open")
# From a cached read to a source that reaches its deadline. The alert's threshold, 2 s, and the defaults of the source
# timeout and the deadline, 2.5 s and 3 s, must be bucket boundaries.
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 5.0, 10.0)
TIMELINE_COLLECTION_FAILURES = InstrumentSpec(
    "support.timeline.collection_failures",
    "counter",
    "{failure}",
    "Failures while collecting: http (no usable response), cache, cache_decode, aggregate (violates the contract)",
    {"stage": ("http", "cache", "cache_decode", "aggregate")},
)
TIMELINE_SOURCE = InstrumentSpec(
    "support.timeline.source",
    "histogram",
    "s",
    "Time of one call to an upstream service, by outcome; not_found: nothing is known under the id, or it was rejected",
    {"service": UPSTREAM_SERVICES, "outcome": SOURCE_OUTCOMES},
    LATENCY_BUCKETS,
)
TIMELINE_BREAKER = InstrumentSpec(
    "support.timeline.breaker",
    "observed sum",
    "{breaker}",
    "1 for the current state of a service's circuit breaker, 0 for the others; open rejects calls",
    {"service": UPSTREAM_SERVICES, "state": BREAKER_STATES},
)


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
    healthy: bool | None = True  # whether the service is healthy; None if the answer says nothing about it
    note: str | None = None  # what the readers of the timeline should know about a complete answer


NOT_FOUND = SourceAnswer("not_found", [])


def rejected_id_answer(status: int) -> SourceAnswer:
    """Return the answer of a service that rejects the id asked for: it has nothing under that id, as after a 404."""
    return replace(NOT_FOUND, note=f"id rejected with status {status}")


def failed_answer(
    outcome: str, stage: Literal["http", "aggregate"] | None, reason: str, *, healthy: bool | None
) -> SourceAnswer:
    """Return the answer of a failed call, without entries."""
    return SourceAnswer(outcome, [], CallFailure(stage, reason), healthy)


CIRCUIT_OPEN = failed_answer("open", None, "circuit open", healthy=None)
DEADLINE_EXCEEDED = failed_answer("open", "http", "timeout", healthy=None)  # the deadline passed while the call waited


@dataclass(slots=True)
class TimelineBudget:
    """The limits of one timeline at one source: concurrent calls, and bytes that it may still receive."""

    slots: asyncio.Semaphore
    bytes_left: int = MAX_ANSWER_BYTES

    async def read_body(self, response: aiohttp.ClientResponse) -> bytes | None:
        """Read a body; return None as soon as it exceeds the bytes that are left."""
        chunks = []
        async for chunk in response.content.iter_any():
            self.bytes_left -= len(chunk)
            if self.bytes_left < 0:
                return None
            chunks.append(chunk)
        return b"".join(chunks)


class SourceClient:
    """Client of one upstream service, with a circuit breaker and limits for concurrency, time and answer size.

    `timeout` in seconds is for one attempt, `connections` is the number of concurrent calls.
    """

    def __init__(
        self,
        source: Source,
        base_url: str,
        session: aiohttp.ClientSession,
        instruments: Instruments,
        *,
        timeout: float,
        connections: int,
        retry_budget: float = RETRY_BUDGET,
        breaker_timings: BreakerTimings = BreakerTimings(),
    ) -> None:
        self.name = source.service
        self.breaker = CircuitBreaker(breaker_timings)
        self.recent = RecentCalls()
        self._source = source
        self._base_url = base_url
        self._session = session
        self._instruments = instruments
        self._calls_by_outcome = {
            outcome: instruments.start_series(TIMELINE_SOURCE, {"service": self.name, "outcome": outcome})
            for outcome in SOURCE_OUTCOMES
        }
        self.timeout = timeout  # seconds, read for each call
        self._connections = connections
        self._slots = asyncio.Semaphore(connections)
        self._waiting = 0
        self._retry_budget = self._retries = retry_budget
        self._log = log.getChild(self.name)  # telemetry/logs.py passes each message once a minute for each logger

    def new_slots(self) -> asyncio.Semaphore:
        """Return the concurrent calls of one read: half of the connections (at least one), so that others stay free."""
        return asyncio.Semaphore(max(1, self._connections // 2))

    def calls(self, references: SourceReferences) -> tuple[list[SourceCall], str | None]:
        """Return the calls for a case's references, at most `MAX_CALLS`, and a note if calls were left out."""
        calls = list(islice(calls_for(self._source, references), MAX_CALLS + 1))
        return calls[:MAX_CALLS], f"only the first {MAX_CALLS} calls" if len(calls) > MAX_CALLS else None

    async def fetch(self, call: SourceCall, deadline: float, budget: TimelineBudget) -> SourceAnswer:
        """Make one call and return its answer; failures of the service never raise. A 404 has no entries.

        Each attempt ends at the source's timeout, or at `deadline` (a time of the event loop's clock) if that is
        earlier. Only the deadline limits the wait for a free connection.
        """
        admission = self.breaker.admit()
        answer = CIRCUIT_OPEN
        if admission is not None:
            try:
                answer = await self._fetch_within_limits(call, admission, deadline, budget)
            finally:  # a call that is cancelled says nothing about the service
                self.breaker.report(admission, healthy=answer.healthy)
        if answer.outcome == "open":
            self._record(0, "open")
        if answer.failure and answer.failure.stage:
            self._instruments.add(TIMELINE_COLLECTION_FAILURES, 1, {"stage": answer.failure.stage})
        return answer

    async def _fetch_within_limits(
        self, call: SourceCall, admission: int, deadline: float, budget: TimelineBudget
    ) -> SourceAnswer:
        """Make the call once it has a slot of its timeline's limit, and then one of the source's limit."""
        if not await _acquire(budget.slots, deadline):
            return DEADLINE_EXCEEDED
        try:
            if self._waiting >= MAX_WAITING_PER_CONNECTION * self._connections:
                return failed_answer("open", None, "too many calls", healthy=None)
            self._waiting += 1
            try:
                if not await _acquire(self._slots, deadline):
                    return DEADLINE_EXCEEDED
            finally:
                self._waiting -= 1
            try:
                if not self.breaker.still_admits(admission):  # it has opened while the call waited
                    return CIRCUIT_OPEN
                return await self._fetch_with_retry(call, admission, deadline, budget)
            finally:
                self._slots.release()
        finally:
            budget.slots.release()

    async def _fetch_with_retry(
        self, call: SourceCall, admission: int, deadline: float, budget: TimelineBudget
    ) -> SourceAnswer:
        """Make the call; retry it once if the connection failed before the answer began, which is safe for a GET."""
        self._retries = min(self._retry_budget, self._retries + 0.1)
        answer = await self._attempt(call, deadline, budget)
        if answer is not None:
            return answer
        pause = random.uniform(*RETRY_PAUSE)
        # The budget protects a service that is down from twice its load: once it is used up, one call in ten retries.
        if self._retries >= 1 and asyncio.get_running_loop().time() + pause < deadline:
            self._retries -= 1
            await asyncio.sleep(pause)
            if self.breaker.still_admits(admission):
                answer = await self._attempt(call, deadline, budget)
        return answer or failed_answer("error", "http", "connection failed", healthy=False)

    async def _attempt(self, call: SourceCall, deadline: float, budget: TimelineBudget) -> SourceAnswer | None:
        """Make one attempt; return None if the connection failed before the answer began."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        answer: SourceAnswer | None = None
        try:
            async with asyncio.timeout_at(min(started + self.timeout, deadline)):
                answer = await self._send_request(call, budget)
        except TimeoutError:
            # A call that the deadline ended early says nothing about the service.
            elapsed = loop.time() - started
            had_time = elapsed >= self.timeout / 2
            self._log.warning("%s did not answer %s within %.2f s", self.name, call.path, elapsed)
            answer = failed_answer("timeout", "http", "timeout", healthy=False if had_time else None)
        except (aiohttp.ClientError, OSError) as failure:
            self._log.warning("%s broke off its answer: %s", self.name, type(failure).__name__)
            answer = failed_answer("error", "http", "connection failed", healthy=False)
        self._record(loop.time() - started, answer.outcome if answer else "error")
        return answer

    def _record(self, seconds: float, outcome: str) -> None:
        self._calls_by_outcome[outcome].record(seconds)
        self.recent.record(seconds, outcome)

    async def _send_request(self, call: SourceCall, budget: TimelineBudget) -> SourceAnswer | None:
        url = URL(self._base_url + call.path, encoded=True)  # the path is percent-encoded already
        try:
            response = await self._session.get(
                url, headers=REQUEST_HEADERS | propagation_headers(), allow_redirects=False
            )
        except (aiohttp.ClientConnectionError, OSError) as failure:
            if isinstance(failure, TimeoutError):
                raise
            self._log.warning("%s can't be reached: %s", self.name, describe_client_error(failure))
            return None
        async with response:
            status = response.status
            if status == 404:  # noqa: PLR2004 - "not found" is a valid answer
                return NOT_FOUND
            if status in REJECTED_ID_STATUSES:
                self._log.warning("%s rejected the id in %s with status %d", self.name, call.path, status)
                return rejected_id_answer(status)
            if not 200 <= status < 300:  # noqa: PLR2004 - the range of successful statuses
                # A refused call (401, 403) says nothing about the service's health.
                healthy = False if status >= 500 or status == 429 else None  # noqa: PLR2004
                self._log.warning("%s answered %s with status %d", self.name, call.path, status)
                return failed_answer("error", "http", f"status {status}", healthy=healthy)
            body = await budget.read_body(response)
            if body is None:
                response.close()  # stops receiving the rest of the body
                return self._contract_violation(call, "too large")
        return self._parse_answer(call, body)

    def _parse_answer(self, call: SourceCall, body: bytes) -> SourceAnswer:
        if has_too_many_containers(body):
            return self._contract_violation(call, "too large")
        try:
            document = pydantic_core.from_json(body, allow_inf_nan=False)
            entries = call.parse(document)
        except ValueError as failure:  # of the JSON parser, too
            reason = ANOTHER_ID if failure.args[0] == ANOTHER_ID else UNREADABLE_ANSWER
            return self._contract_violation(call, reason, str(failure.args[-1]))
        if exceeds_depth(body, document, MAX_ANSWER_DEPTH):
            return self._contract_violation(call, "nested too deep")
        return SourceAnswer("ok", entries)

    def _contract_violation(self, call: SourceCall, reason: str, found: str = "") -> SourceAnswer:
        self._log.warning("%s answered %s off the contract: %s", self.name, call.path, found or reason)
        return failed_answer("invalid", "aggregate", reason, healthy=None)


def breaker_states(sources: Iterable[SourceClient]) -> Observations:
    """Return the gauge's values: 1 for the state of each source's breaker, 0 for other states.

    A service that is not configured has 0 for all states.
    """
    states = {source.name: source.breaker.state for source in sources}
    return [
        (int(states.get(service) == state), {"service": service, "state": state})
        for service in UPSTREAM_SERVICES
        for state in BREAKER_STATES
    ]


async def _acquire(slots: asyncio.Semaphore, deadline: float) -> bool:
    """Acquire the semaphore; return whether that succeeded before the deadline."""
    if not slots.locked():
        return await slots.acquire()
    try:
        async with asyncio.timeout_at(deadline):
            return await slots.acquire()
    except TimeoutError:
        return False


async def prevent_retry(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Raise a lost connection as an error after which aiohttp does not retry: SourceClient does, within its budget."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as failure:
        raise aiohttp.ClientConnectionError(str(failure)) from failure


def create_session(trace_configs: list[aiohttp.TraceConfig]) -> aiohttp.ClientSession:
    """Return the HTTP session for all sources; each source limits its own calls and their time."""
    return limited_session(
        trace_configs,
        timeout=aiohttp.ClientTimeout(),
        auto_decompress=False,  # requests ask for uncompressed answers
        middlewares=(prevent_retry,),
    )
