"""What must hold once all calls of a run have ended: everybody who was told of the cases was told the same.

The last reads are calls of the history, and show the cases.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

ADDED = "message.added"
# Kinds of change, by the action of an audit entry and by the change type of an event.
SAME_KIND = {
    "conversation.added": ADDED,
    "status.changed": "case.changed",
    "case.closed": "case.changed",
    "case.reopened": "case.changed",
}


@dataclass(frozen=True)
class FinalCase:
    """A case as it was read at the end; files by id with their SHA-256."""

    version: int
    status: str
    texts: Sequence[str]
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """A change that a follower of the stream got; `text` is that of an added message."""

    id: str
    case_id: str
    version: int
    change_type: str
    text: str | None = None


@dataclass
class Ending:
    """What was found at the end.

    A None in the stream says that the follower was told to read again: it may get changes again, and may miss some.
    So a case that was opened after the last fault shows that the stream has gone on.
    """

    cases: dict[str, FinalCase]
    listed: dict[str, list[str]]  # ids by status
    counted: dict[str, int]  # by status
    stream: list[Event | None]
    last_opened: str | None  # id of a case that was opened after the last fault; None without a follower
    webhooks: list[tuple[str, str]]  # id of the event and of the case
    audited: dict[str, list[str]]  # actions by case, oldest first
    audit_flaw: str | None
    downloaded: dict[str, str]  # SHA-256 of the bytes, by file

    def events_of(self, case_id: str) -> int:
        """Return how many events a case has: one for each change, and one more for each closing."""
        actions = self.audited[case_id]
        return len(actions) + actions.count("case.closed")

    def errors(self) -> Iterator[str]:
        """Yield a sentence for each thing that is wrong."""
        yield from self._errors_of_lists()
        yield from self._errors_of_audit()
        yield from self._errors_of_stream()
        yield from self._errors_of_webhooks()
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

    def _errors_of_stream(self) -> Iterator[str]:
        """Each stretch between two restarts of the follower has all changes once and in order."""
        if self.last_opened not in {event.case_id for event in self.stream if event is not None}:
            yield f"case {self.last_opened}: it was opened after the last fault, and the stream did not have it"
        stretches: list[list[Event]] = [[]]
        for event in self.stream:
            if event is None:
                stretches.append([])
            else:
                stretches[-1].append(event)
        for number, stretch in enumerate(stretches):
            is_first, is_last = number == 0, number == len(stretches) - 1
            for case_id, case in self.cases.items():
                events = [event for event in stretch if event.case_id == case_id]
                if events or (is_first and is_last):
                    first = 1 if is_first else events[0].version
                    last = case.version if is_last else events[-1].version
                    yield from self._errors_of_events(case_id, events, {*range(first, last + 1)})

    def _errors_of_events(self, case_id: str, events: Sequence[Event], wanted: set[int]) -> Iterator[str]:
        """Yield what is wrong with events of one case, which should have the wanted versions."""
        versions = [event.version for event in events]
        if versions != sorted(versions) or {*versions} != wanted:
            yield f"case {case_id}: the stream had versions {versions}, and not {sorted(wanted)} in order"
        for event_id, times in Counter(event.id for event in events).items():
            if times > 1:
                yield f"case {case_id}: the stream had event {event_id} {times} times"
        actions = [SAME_KIND.get(each, each) for each in self.audited[case_id]]
        texts = self.cases[case_id].texts
        for version, change_type, text in ((each.version, each.change_type, each.text) for each in events):
            if change_type == "case.closed":
                continue  # the second event of a change
            kind, done = SAME_KIND.get(change_type, change_type), actions[:version]
            if [kind] != done[version - 1 :]:
                yield f"case {case_id}: the stream had {kind} at version {version}, and the audit log has {actions}"
            elif kind == ADDED and [text] != [*texts[done.count(ADDED) - 1 : done.count(ADDED)]]:
                yield f"case {case_id}: the stream had the text {text} at version {version}, and the case has {texts}"

    def _errors_of_webhooks(self) -> Iterator[str]:
        """Each event at least once."""
        delivered = {case_id: set() for case_id in self.cases}
        for event_id, case_id in self.webhooks:
            if case_id in delivered:
                delivered[case_id].add(event_id)
        streamed = {event.id for event in self.stream if event is not None}
        for case_id, ids in delivered.items():
            if len(ids) != self.events_of(case_id):
                yield f"case {case_id}: webhooks had {len(ids)} events of {self.events_of(case_id)}"
            elif None not in self.stream and not ids <= streamed:
                yield f"case {case_id}: webhooks had events {sorted(ids - streamed)}, which the stream had not"
