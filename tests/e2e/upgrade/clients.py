"""Clients that count what they see in each step of the upgrade."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

from support_service.cases.model.case import Attachment, Case
from support_service.client import ClientTimings, NoAnswer, SupportClient, SupportError
from tests.support.histories.clients import CHANNEL, Caller, History, until_answered
from tests.support.histories.model import Detail, Operation

PATIENT = ClientTimings(connect=10.0, attempt=30.0, deadline=30.0, attempts=1)  # of a busy machine
ADDRESS = re.compile(r"(http://)?127\.0\.0\.1:\d+[^ :]*")
PAUSE = 0.3  # seconds before the next call of a client that got no answer
Value = TypeVar("Value")


@dataclass
class Step:
    """A step of the upgrade, and the calls that began in it."""

    name: str
    begin: float = field(default_factory=time.time)
    seconds: float = 0.0
    calls: int = 0
    slowest: float = 0.0  # seconds until an answer
    refused: Counter[str] = field(default_factory=Counter)  # by code: rules, which every release has
    errors: Counter[str] = field(default_factory=Counter)  # 5xx by code, and calls without an answer by reason

    def __str__(self) -> str:
        """Return a row of a table."""
        errors = ", ".join(f"{number} {what}" for what, number in self.errors.items()) or "none"
        return f"| {self.name} | {self.seconds:.1f} s | {self.calls} | {self.slowest:.2f} s | {errors} |"


class Tally:
    def __init__(self) -> None:
        self.steps: list[Step] = []

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[Step]:
        """Count the calls that begin in a block."""
        step, begin = Step(name), time.monotonic()
        self.steps.append(step)
        try:
            yield step
        finally:
            step.seconds = time.monotonic() - begin

    def name_of(self, at: float) -> str:
        """Return the step at a time."""
        return next(step.name for step in reversed(self.steps) if step.begin <= at)

    async def count(self, call: Awaitable[Value]) -> Value:
        """Return what a call of a client returns, and count it."""
        step, begin = self.steps[-1], time.monotonic()
        step.calls += 1
        try:
            return await call
        except SupportError as failure:
            if isinstance(failure, NoAnswer):
                step.errors[f"no answer: {ADDRESS.sub('the service', failure.detail)}"] += 1
            elif failure.status is None or failure.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                step.errors[f"{failure.status} {failure.code}"] += 1
            else:
                step.refused[failure.code] += 1
            raise
        finally:
            step.slowest = max(step.slowest, time.monotonic() - begin)


class CountedHistory(History):
    """Two cases, and files of these."""

    def __init__(self, customer: str, tally: Tally) -> None:
        super().__init__(customer)
        self._tally = tally
        self.stored: dict[str, Attachment] = {}  # files that a read has shown

    async def perform(self, client: SupportClient, operation: Operation) -> Any:
        """Make the request of an operation once, and count it."""
        return await self._tally.count(super().perform(client, operation))

    def _shown(self, place: int, case: Case) -> Detail:
        self.stored |= {each.id: each for each in case.attachments}
        return super()._shown(place, case)


class CountedCaller(Caller):
    """A client that counts its calls, and downloads files, too."""

    links_cases = False

    def __init__(self, name: str, client: SupportClient, seed: object, tally: Tally) -> None:
        super().__init__(name, client, seed)
        self._tally = tally

    async def begin_history(self, customer: str) -> CountedHistory:
        """Open two cases, each once."""
        history = CountedHistory(customer, self._tally)
        for name in ("first", "second"):
            fields = {"subject": name, "channel": CHANNEL, "idempotency_key": f"{customer}-{name}", **history.filters}
            opened = await until_answered(lambda fields=fields: self._tally.count(self._client.open_case(**fields)))
            history.ids.append(opened.id)
        return history

    async def call_by_chance(self, history: CountedHistory) -> None:
        """Make one call."""
        if history.stored and self._draw.random() < 0.1:
            await self._download(self._draw.choice([*history.stored.values()]))
        elif not await self.call(history, self._operation(history)):
            await asyncio.sleep(PAUSE)

    async def _download(self, attachment: Attachment) -> None:
        """Download a file, unless it was removed meanwhile. Raises UnexpectedAnswer if its bytes are others."""
        try:
            await self._tally.count(self._read(attachment))
        except NoAnswer:
            await asyncio.sleep(PAUSE)
        except SupportError as failure:
            if failure.code != "attachment_not_found" and (failure.status or 0) < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise

    async def _read(self, attachment: Attachment) -> None:
        async for _ in self._client.download(attachment):
            pass
