"""What must hold once all calls of a run have ended: everybody who was told of the cases was told the same.

The last reads are calls of the history, and show the cases.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ADDED, CLOSED = "message.added", "case.closed"
# Kinds of change, by the action of an audit entry and by the change type of an event.
SAME_KIND = {
    "conversation.added": ADDED,
    "status.changed": "case.changed",
    "case.closed": "case.changed",
    "case.reopened": "case.changed",
}


CHANGE_TYPES = {"support.case.opened.v1": "case.opened", "support.case.closed.v1": CLOSED}  # by the type of an event

Place = tuple[int, bool]
START, END = (-1, False), (sys.maxsize, True)


@dataclass(frozen=True)
class FinalCase:
    """A case as it was read at the end; files by id with their SHA-256. `notes` are the texts that are internal."""

    version: int
    status: str
    texts: Sequence[str]
    files: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def message(self, text: str | None) -> tuple[str, str] | None:
        """Return a text with its visibility, as events tell of its message."""
        return None if text is None else (text, "internal" if text in self.notes else "public")


@dataclass(frozen=True)
class Event:
    """A change as somebody was told of it: the status of the case after it, and text and visibility of a message."""

    id: str
    case_id: str
    version: int
    change_type: str
    status: str
    message: tuple[str, str] | None = None

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> "Event":
        data = event["data"]
        message = data.get("conversation") or data.get("initialMessage")
        told = message and (message["message"], message["visibility"])
        case = data["ticket"]
        return cls(event["id"], event["subject"], case["version"], change_type_of(event), case["status"], told)

    @property
    def kind(self) -> str:
        """The kind of the change; the second event of a closing has a kind of its own."""
        return CLOSED if self.change_type == CLOSED else SAME_KIND.get(self.change_type, self.change_type)


def change_type_of(event: Mapping[str, Any]) -> str:
    """Return the change type of a published event, which follows from its type or stands in its data."""
    return CHANGE_TYPES.get(event["type"]) or str(event["data"]["changeType"])


@dataclass(frozen=True)
class ReadAgain:
    """A follower of the stream was told to read again, and then has read these versions of all cases.

    Later changes come after it.
    """

    versions: Mapping[str, int]


@dataclass
class Ending:
    """What was found at the end.

    A follower that was told to read again may get changes again. A case that was opened after the last fault shows that
    the stream has gone on.
    """

    cases: dict[str, FinalCase]
    listed: dict[str, list[str]]  # ids by status
    counted: dict[str, int]  # by status
    audited: dict[str, list[str]]  # actions by case, oldest first
    audit_flaw: str | None
    downloaded: dict[str, str]  # SHA-256 of the bytes, by file
    streams: dict[str, list[Event | ReadAgain]] = field(default_factory=dict)  # by the name of the follower
    statuses: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by case, after each version
    most_restarts: int = 0  # of each follower
    last_opened: str | None = None  # id of a case that was opened after the last fault
    webhooks: Sequence[Mapping[str, Any]] = ()  # published events, in any order
    published: Sequence[Mapping[str, Any]] | None = None  # what a consumer got; None without Redis
    places: Mapping[tuple[str, int], int] = field(default_factory=dict)  # in the stream, by case and version

    def places_of_published(self) -> dict[tuple[str, int], int]:
        """Return the places of changes in the stream: it has the order of the published events."""
        found: dict[tuple[str, int], int] = {}
        for place, event in enumerate(_without_repeats(self.published or ())):
            found.setdefault((event.case_id, event.version), place)
        return found

    def errors(self) -> Iterator[str]:
        """Yield a sentence for each thing that is wrong."""
        yield from self._errors_of_lists()
        yield from self._errors_of_audit()
        yield from self._errors_of_statuses()
        yield from self._errors_of_published()
        yield from self._errors_of_streams()
        yield from self._errors_of_files()

    def _errors_of_files(self) -> Iterator[str]:
        for case_id, case in self.cases.items():
            for file, digest in case.files.items():
                if self.downloaded.get(file) != digest:
                    yield f"case {case_id}: the bytes of file {file} are not those that were uploaded"

    def _errors_of_lists(self) -> Iterator[str]:
        for status, listed in self.listed.items():
            wanted = {case_id for case_id, case in self.cases.items() if case.status == status}
            for case_id in sorted(wanted ^ {*listed}):
                yield f"case {case_id}: the list of status {status} is wrong about it"
            for case_id, times in Counter(listed).items():
                if times > 1:
                    yield f"case {case_id}: the list of status {status} has it {times} times"
            if self.counted[status] != len(wanted):
                yield f"the count of status {status} is {self.counted[status]}, and not {len(wanted)}"

    def _errors_of_audit(self) -> Iterator[str]:
        if self.audit_flaw is not None:
            yield f"the audit chain does not hold: {self.audit_flaw}"
        for case_id, case in self.cases.items():
            if (entries := len(self.audited[case_id])) != case.version:
                yield f"case {case_id}: version {case.version} has {entries} audit entries"

    def _errors_of_statuses(self) -> Iterator[str]:
        for case_id, case in self.cases.items():
            if [*self.statuses[case_id][-1:]] != [case.status]:
                yield f"case {case_id}: it has the status {case.status}, and the audit log {self.statuses[case_id]}"

    def _errors_of_published(self) -> Iterator[str]:
        """Yield what is wrong with webhooks, which come in any order, and with published events, which come in order.

        Each event comes at least once: a repeat has the same id.
        """
        webhooks = sorted(_without_repeats(self.webhooks), key=lambda event: (event.version, event.kind == CLOSED))
        ids = {event.id for event in webhooks}
        told: dict[str, Sequence[Event]] = {"webhooks": webhooks}
        if self.published is not None:
            told["published events"] = _without_repeats(self.published)
        for name, events in told.items():
            of_cases = _by_case(events)
            for case_id in self.cases:
                yield from self._errors_of_events(name, case_id, of_cases[case_id], self._events_of(case_id))
        told |= {name: [item for item in stream if isinstance(item, Event)] for name, stream in self.streams.items()}
        for name, events in told.items():
            for event in events:
                if event.case_id in self.cases and event.id not in ids:
                    yield f"case {event.case_id}: {name} had event {event.id}, and webhooks had not"

    def _errors_of_streams(self) -> Iterator[str]:
        """Each stretch between two restarts of a follower has what came after its read, once and in order.

        What was there at the read may come again. What a stretch lacks at its end, the next read has shown.
        """
        for name, stream in self.streams.items():
            if (restarts := sum(isinstance(item, ReadAgain) for item in stream)) > self.most_restarts:
                yield f"{name} was told to read again {restarts} times, and faults explain {self.most_restarts}"
            if self.last_opened not in {item.case_id for item in stream if isinstance(item, Event)}:
                yield f"case {self.last_opened}: it was opened after the last fault, and {name} did not have it"
            stretches: list[tuple[Mapping[str, int], list[Event]]] = [({}, [])]
            for item in stream:
                if isinstance(item, ReadAgain):
                    stretches.append((item.versions, []))
                else:
                    stretches[-1][1].append(item)
            for read, events in stretches[:-1]:
                reached = max(
                    (self._place(event.case_id, event.version, event.kind) for event in events), default=START
                )
                yield from self._errors_of_stretch(name, read, events, reached)
            yield from self._errors_of_stretch(name, *stretches[-1], END)

    def _errors_of_stretch(
        self, name: str, read: Mapping[str, int], events: Sequence[Event], reached: Place
    ) -> Iterator[str]:
        """Yield what is wrong with what came after a read, up to the place that it has reached."""
        of_cases = _by_case(events)
        for case_id in self.cases:
            told, wanted = of_cases[case_id], self._events_of(case_id)
            first = sum(version <= read.get(case_id, 0) for version, _ in wanted)
            if told and (again := (told[0].version, told[0].kind)) in wanted[:first]:
                first = wanted.index(again)
            last = sum(self._place(case_id, version, kind) <= reached for version, kind in wanted)
            yield from self._errors_of_events(name, case_id, told, wanted[first:last])

    def _errors_of_events(
        self, name: str, case_id: str, events: Sequence[Event], wanted: Sequence[tuple[int, str]]
    ) -> Iterator[str]:
        """Yield what is wrong with events of one case, which should have the wanted versions and kinds."""
        told = [(event.version, event.kind) for event in events]
        if told != wanted:
            yield f"case {case_id}: {name} had {told}, and the audit log has {wanted}"
        versions = [version for version, kind in self._events_of(case_id) if kind == ADDED]
        case = self.cases[case_id]
        messages = dict(zip(versions, map(case.message, case.texts), strict=False))
        statuses = dict(enumerate(self.statuses[case_id], 1))
        for event in events:
            version = event.version
            if event.message != (message := messages.get(version)):
                yield f"case {case_id}: {name} had the text {event.message} at version {version}, and not {message}"
            if event.status != (status := statuses.get(version)):
                yield f"case {case_id}: {name} had the status {event.status} at version {version}, and not {status}"

    def _events_of(self, case_id: str) -> list[tuple[int, str]]:
        """Return version and kind of each event of a case: one for each change, and one more for each closing."""
        found = []
        for version, action in enumerate(self.audited[case_id], 1):
            found.append((version, SAME_KIND.get(action, action)))
            found += [(version, CLOSED)] if action == CLOSED else []
        return found

    def _place(self, case_id: str, version: int, kind: str) -> Place:
        return self.places.get((case_id, version), 0), kind == CLOSED


def _without_repeats(events: Iterable[Mapping[str, Any]]) -> list[Event]:
    """Return events at the place of the first that has their id."""
    found: dict[str, Event] = {}
    for event in events:
        if event["id"] not in found:
            found[event["id"]] = Event.of(event)
    return [*found.values()]


def _by_case(events: Iterable[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        found[event.case_id].append(event)
    return found
