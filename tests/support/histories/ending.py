"""What must hold once all calls of a run have ended: everybody who was told of the cases was told the same.

The last reads are calls of the history, and show the cases.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

# Kinds of change, by the action of an audit entry and by the change type of an event.
SAME_KIND = {
    "conversation.added": "message.added",
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
    """What was found at the end. A None in the stream says that the follower was told to read again."""

    cases: dict[str, FinalCase]
    listed: dict[str, list[str]]  # ids by status
    counted: dict[str, int]  # by status
    stream: list[Event | None]
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
        """Once and in order. Who was told to read again may get changes again, and may have missed some."""
        is_whole, seen, found = True, set(), {case_id: [] for case_id in self.cases}
        for event in self.stream:
            if event is None:
                is_whole, seen = False, set()
            elif event.case_id in found:
                if event.id in seen:
                    yield f"case {event.case_id}: the stream had version {event.version} twice"
                seen.add(event.id)
                found[event.case_id].append(event)
        for case_id, events in found.items():
            if not is_whole:
                continue
            kinds = [event.change_type for event in events if not self._follows_a_closing(event)]
            actions = self.audited[case_id]
            if [SAME_KIND.get(kind, kind) for kind in kinds] != [SAME_KIND.get(each, each) for each in actions]:
                yield f"case {case_id}: the stream had {', '.join(kinds)}, and the audit log has {', '.join(actions)}"
            versions = [event.version for event in events]
            if versions != sorted(versions) or {*versions} != {*range(1, self.cases[case_id].version + 1)}:
                yield f"case {case_id}: the stream had versions {versions} in this order"
            texts = [event.text for event in events if event.text is not None]
            if texts != [*self.cases[case_id].texts]:
                yield f"case {case_id}: the stream had texts {texts}, and the case has {[*self.cases[case_id].texts]}"

    @staticmethod
    def _follows_a_closing(event: Event) -> bool:
        """Whether it is the second event of a change that closed the case."""
        return event.change_type == "case.closed"

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
