"""Operations of the model as requests, and clients that make them by chance and record each call."""

import asyncio
import hashlib
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ClassVar

from support_service.api.models.audit import AuditEntry
from support_service.client import (
    Case,
    CaseSummary,
    ClientTimings,
    ListedCase,
    SupportClient,
    SupportError,
    UnexpectedAnswer,
)
from tests.support.histories.checker import Call
from tests.support.histories.model import AnswerLost, Detail, Listed, Operation, RefusedAnswer, Row

ONE_ATTEMPT = ClientTimings(connect=2.0, attempt=4.0, deadline=4.0, attempts=1)
MAX_CALLS, MAX_UNANSWERED = 120, 10  # of a history
REFUSALS = {404, 409, 412, 422}  # statuses of answers that say that nothing has changed
FAULTS = {408, 502, 503, 504}  # statuses of a broken deployment: the request may have an effect
# HAProxy answers 500 by itself if it marks a replica as down while a request is in progress there.
LOAD_BALANCER_ERROR = "load_balancer_error"
# An earlier attempt is in progress. A list waits behind others, as while the database is frozen: no limit of the rate
# is on, so no other answer has the status 429.
AMBIGUOUS = {"idempotency_key_in_use", "searches_waiting", LOAD_BALANCER_ERROR}
SIZES = (0, 300, 70_000)  # bytes of files
CHANNEL = "email"
DUPLICATE = "duplicate-of"  # what a case is to its original, in links
STATUSES = ("open", "pending", "resolved", "closed")
PRIORITIES = ("low", "normal", "high")
LONG = 120.0  # seconds, on a busy machine
NO_ANSWER = object()
MESSAGES = {
    "say": {"author_type": "agent"},
    "say as customer": {"author_type": "customer"},
    "note": {"author_type": "agent", "visibility": "internal"},
}


@dataclass
class KnownCases:
    """Cases, and what requests have to know of them: ids of cases, files, links and messages."""

    filters: dict[str, str]  # of lists: they show these cases only
    ids: list[str] = field(default_factory=list)
    files: dict[str, tuple[int, str]] = field(default_factory=dict)  # place and id, by name
    links: dict[int, str] = field(default_factory=dict)  # id of the link of a duplicate, by its place
    versions: dict[int, int] = field(default_factory=dict)  # that were read last, by place
    messages: dict[str, str] = field(default_factory=dict)  # id, by text
    have_external_ids: bool = False  # whether the text of a message is its external id, too

    async def perform(self, client: SupportClient, operation: Operation) -> Any:  # noqa: C901 - a case each
        """Make the request of an operation once; return the answer in words of the model. Raises SupportError."""
        name, place, value, version, key = operation
        case_id = self.ids[place]
        sent: dict[str, Any] = {"version": version, "idempotency_key": key}
        answer: Any = None
        match name:
            case "read":
                answer = self._shown(place, await client.get_case(case_id))
            case "list":
                listed = client.list_cases(**self.filters, status=list(value))
                answer = tuple(sorted([self._listed(case) async for case in listed]))
            case "say" | "say as customer" | "note":
                sent |= {"external_id": value} if self.have_external_ids else {}
                message = await client.add_message(case_id, message=value, **MESSAGES[name], **sent)
                self.messages[value] = message.id
                answer = self.place(message.ticket_id)
            case "prioritize":
                answer = _row(await client.change_case(case_id, priority=value, **sent))
            case "set status":
                status, until = value
                until = until and datetime.fromisoformat(until)
                answer = _row(await client.set_status(case_id, status, until=until, **sent))
            case "upload":
                stored = await client.upload(case_id, bytes_of(value[0]), filename=value[0], **sent)
                answer = self.place(stored.ticket_id)
                self.files[value[0]] = answer, stored.id
            case "remove":
                await client.remove_attachment(case_id, self.files[value][1], **sent)
            case "relate":
                await client.add_link(case_id, self.ids[value], "related", **sent)
            case "merge":
                answer = _row(await client.merge_case(case_id, self.ids[value], **sent))
            case "unmerge":
                await client.remove_link(case_id, value, **sent)
            case "split":
                messages = [self.messages[text] for text in value]
                self.ids.append((await client.split_case(case_id, messages, "split", **sent)).id)
                answer = len(self.ids) - 1
            case _:
                raise ValueError(name)
        return answer

    def place(self, case_id: str | None) -> int | None:
        """Return the place of a case. Raises AssertionError for a case of another history."""
        if case_id is None:
            return None
        assert case_id in self.ids, f"an answer has case {case_id}, which is none of {self.ids}"
        return self.ids.index(case_id)

    def _listed(self, case: ListedCase) -> Listed:
        merged_into = self.place(case.merged_into)
        return Listed(self.place(case.id), case.status, case.priority, _time(case.snoozed_until), merged_into)

    def _shown(self, place: int, case: Case) -> Detail:
        """Return what a read shows, and note what later requests name. Raises AssertionError as `place` does."""
        self.versions[place] = case.version
        shown = {case.id}
        for link in case.links:
            if link.kind == DUPLICATE:
                self.links[place] = link.id
            elif link.kind == "duplicated-by":
                shown.add(link.case_id)
        shown |= {each.ticket_id for each in (*case.messages, *case.attachments)}  # duplicates of duplicates
        for case_id in shown | {link.case_id for link in case.links}:
            self.place(case_id)
        self.files |= {file.filename: (self.place(file.ticket_id), file.id) for file in case.attachments}
        texts, files = [], []
        for each in self.ids:
            of_case = [message.message for message in case.messages if message.ticket_id == each]
            texts.append(tuple(of_case) if each in shown else None)
            stored = [(file.filename, file.sha256) for file in case.attachments if file.ticket_id == each]
            files.append(tuple(stored) if each in shown else None)
        related = tuple(sorted(self.ids.index(link.case_id) for link in case.links if link.kind == "related"))
        notes = tuple(sorted(each.message for each in case.messages if each.visibility == "internal"))
        return Detail(_row(case), self.place(case.merged_into), tuple(texts), tuple(files), related, notes)


def file(name: str) -> tuple[str, str]:
    """Return the value of an upload: a name, and the SHA-256 of its bytes."""
    return name, hashlib.sha256(bytes_of(name)).hexdigest()


def bytes_of(name: str) -> bytes:
    """Return the bytes of a file, which follow from its name."""
    draw = random.Random(name)
    return draw.randbytes(draw.choice(SIZES))


def _row(case: CaseSummary) -> Row:
    return Row(case.version, case.status, case.priority, _time(case.snoozed_until))


def _time(at: datetime | None) -> str | None:
    return at and at.isoformat()


class History(KnownCases):
    """Two cases of one customer, and the calls of some clients about them at the same time."""

    def __init__(self, customer: str) -> None:
        super().__init__({"customer_id": customer})
        self.customer = customer
        self.calls: list[Call] = []
        self.repeatable: list[Operation] = []
        self.link_versions: dict[str, int] = {}  # version of the duplicate with which a link was added, by its id
        self.numbers = itertools.count()

    @property
    def is_full(self) -> bool:
        """Whether a check of more calls would take long."""
        unanswered = sum(not call.is_answered for call in self.calls if call.operation.name != "wake")
        return len(self.calls) >= MAX_CALLS or unanswered >= MAX_UNANSWERED

    def recorded(self) -> list[Call]:
        """Return the calls, with the links of the model. A key that was used once says nothing."""
        used = Counter(call.operation.key for call in self.calls)
        return [replace(call, operation=self._in_model(call.operation, used)) for call in self.calls]

    def note_links(self, entries: Sequence[AuditEntry]) -> None:
        """Note which versions of a case have added the links of a duplicate; its audit entries come oldest first."""
        for version, entry in enumerate(entries, 1):
            if entry.action == "link.added" and entry.changes["kind"][1] == DUPLICATE:
                self.link_versions[entry.changes["linkId"][1]] = version

    def _in_model(self, operation: Operation, used: Counter[str | None]) -> Operation:
        if operation.name == "unmerge":
            operation = operation._replace(value=self.link_versions.get(operation.value))
        return operation if used[operation.key] > 1 else operation._replace(key=None)


class Caller:
    """A client whose every choice follows from a seed."""

    links_cases: ClassVar[bool] = True  # whether it relates and merges the cases, too

    def __init__(self, name: str, client: SupportClient, seed: object) -> None:
        self.name = name
        self._client = client
        self._draw = random.Random(f"{seed} {name}")
        self.answered = 0  # calls

    async def begin_history(self, customer: str) -> History:
        """Open two cases, however often it takes."""
        history = History(customer)
        for name in ("first", "second"):
            fields = {"subject": name, "channel": CHANNEL, "external_id": f"{customer} {name}", **history.filters}
            history.ids.append((await until_answered(partial(self._client.open_case, **fields))).id)
        return history

    async def call_by_chance(self, history: History) -> None:
        await self.call(history, self._operation(history))

    async def call(self, history: History, operation: Operation) -> bool:
        """Call the service, again with the same key if there is no answer, and record it; return whether it answered.

        Attempts with one key are one call, since they have one effect. A refusal says nothing of an earlier attempt.
        """
        patience = self._draw.choice((0.0, 3.0, 10.0))
        begin = first = time.monotonic()
        answer = await self._attempt(history, operation)
        while answer is NO_ANSWER and time.monotonic() < first + patience and not operation.is_read:
            await asyncio.sleep(0.1)
            begin = time.monotonic()
            answer = await self._attempt(history, operation)
        end = time.monotonic()
        if (answer is NO_ANSWER or (isinstance(answer, RefusedAnswer) and begin > first)) and not operation.is_read:
            history.calls.append(Call(self.name, operation, first))
        if answer is NO_ANSWER:
            return False
        self.answered += 1
        history.calls.append(
            Call(self.name, operation, begin if isinstance(answer, RefusedAnswer) else first, end, answer)
        )
        return True

    async def _attempt(self, history: History, operation: Operation) -> Any:
        """Return the answer to one request, or NO_ANSWER. Raises SupportError for an answer that no fault explains."""
        try:
            return await history.perform(self._client, operation)
        except UnexpectedAnswer:  # such as a file with other bytes
            raise
        except SupportError as failure:
            if failure.code == "idempotency_answer_lost":
                return AnswerLost()
            if says_nothing(failure) or (failure.code == "invalid_request" and _is_over(operation)):
                return NO_ANSWER
            if failure.status in REFUSALS:
                return RefusedAnswer(failure.code)
            failure.add_note(f"status {failure.status} {failure.code}, request {failure.request_id}: {operation}")
            raise

    def _operation(self, history: History) -> Operation:
        draw, place = self._draw, self._draw.randrange(2)
        kind = draw.choices(("read", "list", "repeat", "write"), (5, 1, 1, 8))[0]
        if kind == "list":
            return Operation("list", 0, tuple(draw.sample(STATUSES, draw.choice((0, 1, 2)))))
        if kind == "repeat" and history.repeatable:
            return draw.choice(history.repeatable[-8:])
        return self._write(history, place) if kind == "write" else Operation("read", place)

    def _write(self, history: History, place: int) -> Operation:
        draw, number = self._draw, next(history.numbers)
        files = [name for name, (where, _) in history.files.items() if where == place]
        name = draw.choices(
            (*MESSAGES, "set status", "snooze", "prioritize", "upload", "relate", "merge", "unmerge", "remove"),
            (4, 3, 2, 4, 2, 2, 3, self.links_cases, self.links_cases, 2 if place in history.links else 0, bool(files)),
        )[0]
        value = {
            **dict.fromkeys(MESSAGES, f"text {number}"),
            "set status": (draw.choice(STATUSES), None),
            "prioritize": draw.choice(PRIORITIES),
            "upload": file(f"{history.customer} file {number}"),
            "relate": 1 - place,
            "merge": 1 - place,
            "unmerge": history.links.get(place),
            "remove": draw.choice(files or [None]),
        }.get(name)
        # The removal of a file that is not there is refused for that reason, whatever the version.
        version = history.versions.get(place) if name != "remove" and draw.random() < 0.3 else None
        key = f"{history.customer}-{number}"
        if name == "snooze":  # no repeat: its time may have passed
            return Operation("set status", place, ("pending", self._snooze_end(history, place)), version, key)
        operation = Operation(name, place, value, version, key)
        history.repeatable.append(operation)
        return operation

    def _snooze_end(self, history: History, place: int) -> str:
        """Return a time. The service may open the case from then on, if the case is snoozed until that time."""
        now = datetime.now(UTC)
        until = now + timedelta(seconds=self._draw.uniform(0.5, 6))
        begin = time.monotonic() + (until - now).total_seconds() - 0.05
        history.calls.append(Call("service", Operation("wake", place, until.isoformat()), begin))
        return until.isoformat()


async def until_answered(call: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(LONG):
        while True:
            try:
                if answer := await call():
                    return answer
            except SupportError as failure:
                if not says_nothing(failure):
                    raise
            await asyncio.sleep(0.1)


def says_nothing(failure: SupportError) -> bool:
    """Return whether a call may have happened or not, as faults leave it: an answer is missing, or is about a fault."""
    return failure.status is None or failure.status in FAULTS or failure.code in AMBIGUOUS


def _is_over(operation: Operation) -> bool:
    """Return whether an operation snoozes a case until a time that has passed.

    The service then answers `invalid_request`, before it looks for an earlier attempt with the same key. The model has
    no clock, so it can't say whether a snooze is refused.
    """
    until = operation.value[1] if operation.name == "set status" else None
    return until is not None and datetime.fromisoformat(until) <= datetime.now(UTC)
