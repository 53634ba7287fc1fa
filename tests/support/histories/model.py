"""The model of cases: what each operation answers, and the state that it leaves behind. It is the only one.

It has no effects and no clock. Tests compare random requests, one after another, with its answers:
`app/api/` requests to a case and bulk changes, and `e2e/day/` the requests of a team. The checker searches for an order
of concurrent calls in which the service and the model answer the same.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

MOVES = {
    "open": {"pending", "resolved", "closed"},
    "pending": {"open", "resolved", "closed"},
    "resolved": {"open", "pending", "closed"},
    "closed": {"open"},
}
READS = ("read", "list")
GIVEN = ("agent", "team", "priority", "status", "tags", "snoozed_until")  # fields that an undone bulk change restores


class Operation(NamedTuple):
    """What a caller wants of the case at a place; `version` is that of `If-Match`, `key` makes repeats harmless."""

    name: str
    place: int = 0
    value: Any = None
    version: int | None = None
    key: str | None = None

    @property
    def is_read(self) -> bool:
        return self.name in READS


class RefusedAnswer(NamedTuple):
    """The answer of an operation that changed nothing: the code of the problem."""

    code: str


class AnswerLost(NamedTuple):
    """The answer of a repeat whose first answer can't be given again: the operation has taken effect, once."""


class Row(NamedTuple):
    """The fields of a case that answers to changes have."""

    version: int
    status: str
    priority: str
    snoozed_until: str | None


class Detail(NamedTuple):
    """What a read of a case shows. Texts and files by place are None where it shows no such case.

    `related` has the places of related cases, and `notes` the shown texts that are internal.
    """

    row: Row
    merged_into: int | None
    texts: tuple[tuple[str, ...] | None, ...]
    files: tuple[tuple[tuple[str, str], ...] | None, ...]
    related: tuple[int, ...]
    notes: tuple[str, ...]


class Listed(NamedTuple):
    """What a list shows of the case at a place."""

    place: int
    status: str
    priority: str
    snoozed_until: str | None
    merged_into: int | None


class CaseState(NamedTuple):
    """A case; `original` is the place of the case that it is a duplicate of, `former` what an undone merge restores.

    `link` identifies the link to the original: it is the version of the duplicate with which the link was added.
    """

    customer: str = ""
    version: int = 1
    status: str = "open"
    priority: str = "normal"
    snoozed_until: str | None = None
    texts: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()  # name and SHA-256
    original: int | None = None
    link: int | None = None
    former: tuple[str, str | None] = ("open", None)
    agent: str | None = None
    team: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def row(self) -> Row:
        return Row(self.version, self.status, self.priority, self.snoozed_until)

    @property
    def merged_into(self) -> int | None:
        """The place of the original, as answers show it."""
        return self.original if self.status == "closed" else None


class Person(NamedTuple):
    """Who makes requests. `teams` are the teams of an agent."""

    name: str
    role: str
    teams: tuple[str, ...] = ()

    def sees(self, case: CaseState) -> bool:
        """Return whether a case is one of the person's."""
        if self.role == "customer":
            return case.customer == self.name
        if self.role == "agent":
            return case.agent == self.name or case.team in self.teams or case.agent is case.team is None
        return True


class State(NamedTuple):
    """The cases, the places of related cases, the texts that are internal, and the answer to each key that was used."""

    cases: tuple[CaseState, ...]
    related: frozenset[frozenset[int]] = frozenset()
    notes: frozenset[str] = frozenset()
    answers: frozenset[tuple[str, Any]] = frozenset()

    def put(self, place: int, **fields: Any) -> "State":
        """Return the state after one change of the case at a place."""
        before = self.cases[place]
        after = before._replace(version=before.version + 1, **fields)
        return self._replace(cases=(*self.cases[:place], after, *self.cases[place + 1 :]))

    def add(self, case: CaseState) -> "State":
        return self._replace(cases=(*self.cases, case))


class Refusal(Exception):
    """The model refuses an operation with a code."""


def opened(*customers: str) -> State:
    """Return the state of cases of some customers that were just opened, without a message."""
    return State(tuple(map(CaseState, customers)))


def apply(state: State, operation: Operation) -> tuple[State, Any]:
    """Return the state after an operation, and its answer."""
    for key, answer in state.answers:
        if key == operation.key:
            return state, answer
    if operation.version not in (None, state.cases[operation.place].version):
        return state, RefusedAnswer("case_changed")
    try:
        after, answer = OPERATIONS[operation.name](state, operation.place, operation.value)
    except Refusal as refusal:
        return state, RefusedAnswer(str(refusal))
    if operation.key is not None:
        after = after._replace(answers=after.answers | {(operation.key, answer)})
    return after, answer


def change(state: State, person: Person, place: int, values: Mapping[str, Any]) -> tuple[State, Row | RefusedAnswer]:
    """Return the state after a person gives a case values, and its answer. An agent gives no case to others."""
    case = state.cases[place]
    if not person.sees(case):
        return state, RefusedAnswer("case_not_found")
    agents = {case.agent, values.get("agent", case.agent)}
    if person.role == "agent" and len(agents) > 1 and not agents <= {None, person.name}:
        return state, RefusedAnswer("permission_missing")
    try:
        return _change(state, place, values)
    except Refusal as refusal:
        return state, RefusedAnswer(str(refusal))


Outcomes = list[tuple[int, str, str | None]]  # place, outcome, and code of the refusal
Undo = dict[int, tuple[CaseState, int]]  # of changed cases: the case before, and its version after


def change_many(
    state: State, person: Person, places: Iterable[int], values: Mapping[str, Any]
) -> tuple[State, Outcomes, Undo]:
    """Return the state after a bulk change, the outcome of each case, and what an undo needs to know.

    `values` may have `add_tags` and `remove_tags`.
    """
    outcomes: Outcomes = []
    undo: Undo = {}
    for place in places:
        before = state.cases[place]
        tags = [tag for tag in before.tags if tag not in values.get("remove_tags", ())]
        tags += [tag for tag in values.get("add_tags", ()) if tag not in tags]
        given = {name: value for name, value in values.items() if name in GIVEN}
        state, answer = change(state, person, place, given | {"tags": tuple(tags)})
        if isinstance(answer, RefusedAnswer):
            outcomes.append((place, "refused", answer.code))
        elif answer.version == before.version:
            outcomes.append((place, "unchanged", None))
        else:
            outcomes.append((place, "changed", None))
            undo[place] = before, answer.version
    return state, outcomes, undo


def undo_change(state: State, undo: Undo) -> tuple[State, Outcomes]:
    """Give cases that did not change since a bulk change their former values. Return the outcomes, too."""
    outcomes: Outcomes = []
    for place, (before, version) in undo.items():
        if state.cases[place].version != version:
            outcomes.append((place, "refused", "case_changed_since"))
            continue
        state = state.put(place, **{name: getattr(before, name) for name in GIVEN})
        outcomes.append((place, "undone", None))
    return state, outcomes


def agrees(expected: Any, answer: Any) -> bool:
    """Return whether an answer of the service is what the model expects."""
    if isinstance(answer, AnswerLost):
        return not isinstance(expected, RefusedAnswer)
    return expected == answer


def is_past(state: State, operation: Operation, answer: Any) -> bool:
    """Return whether no later state can give this answer: versions grow, and texts are only added without splits."""
    if operation.key is not None:
        return False
    if isinstance(answer, Row):
        return state.cases[operation.value if operation.name == "merge" else operation.place].version > answer.version
    if not isinstance(answer, Detail):
        return False
    shown = answer.texts[operation.place] or ()
    case = state.cases[operation.place]
    return case.version > answer.row.version or case.texts != shown[: len(case.texts)]


def places_shown(state: State, place: int) -> list[int]:
    """Return the places that a read of a case shows: its own, and the places of its duplicates, at any depth."""
    return [number for number in range(len(state.cases)) if place in _chain(state, number)]


def _say(state: State, place: int, text: str) -> tuple[State, int]:
    place = _arrival(state, place)
    return state.put(place, texts=(*state.cases[place].texts, text)), place


def _say_as_customer(state: State, place: int, text: str) -> tuple[State, int]:
    """It opens a resolved or snoozed case, in a change of its own."""
    place = _arrival(state, place)
    case = state.cases[place]
    if case.status == "closed":
        raise Refusal("case_closed")
    state, _ = _say(state, place, text)
    if case.status == "resolved" or case.snoozed_until:
        state = state.put(place, status="open", snoozed_until=None)
    return state, place


def _note(state: State, place: int, text: str) -> tuple[State, int]:
    """It stays in a closed duplicate."""
    after = state.put(place, texts=(*state.cases[place].texts, text))
    return after._replace(notes=state.notes | {text}), place


def _change(state: State, place: int, values: Mapping[str, Any]) -> tuple[State, Row]:
    """It is one change, whatever it gives. A status ends a snooze, unless it comes with one."""
    case = state.cases[place]
    status = values.get("status", case.status)
    if status != case.status and status not in MOVES[case.status]:
        raise Refusal("status_move_not_allowed")
    fields = {"snoozed_until": None, **values} if "status" in values else values
    if any(getattr(case, name) != value for name, value in fields.items()):
        # A merge that is undone does not change the status of a duplicate that was opened meanwhile.
        former = {"former": ("closed", None)} if case.status == "closed" != status else {}
        state = state.put(place, **fields, **former)
    return state, state.cases[place].row


def _prioritize(state: State, place: int, priority: str) -> tuple[State, Row]:
    return _change(state, place, {"priority": priority})


def _set_status(state: State, place: int, value: tuple[str, str | None]) -> tuple[State, Row]:
    """The status, and the time until which the case is snoozed."""
    return _change(state, place, dict(zip(("status", "snoozed_until"), value, strict=True)))


def _wake(state: State, place: int, until: str) -> tuple[State, None]:
    """The service opens a case whose snooze has ended."""
    if state.cases[place].snoozed_until == until:
        state, _ = _set_status(state, place, ("open", None))
    return state, None


def _upload(state: State, place: int, file: tuple[str, str]) -> tuple[State, int]:
    place = _arrival(state, place)
    return state.put(place, files=(*state.cases[place].files, file)), place


def _remove(state: State, place: int, name: str) -> tuple[State, None]:
    files = state.cases[place].files
    left = tuple(file for file in files if file[0] != name)
    if left == files:
        raise Refusal("attachment_not_found")
    return state.put(place, files=left), None


def _relate(state: State, place: int, other: int) -> tuple[State, None]:
    """A link that is there from either side is not added again."""
    link = frozenset((place, other))
    if link not in state.related:
        state = state.put(place).put(other)._replace(related=state.related | {link})
    return state, None


def _merge(state: State, place: int, into: int) -> tuple[State, Row]:
    case = state.cases[place]
    if case.original is None:
        if place in _chain(state, into):
            raise Refusal("link_cycle")
        if state.cases[into].status == "closed":
            raise Refusal("duplicate_of_closed_case")
        former = case.status, case.snoozed_until
        state = state.put(into).put(place, original=into, link=case.version + 1, former=former)
        if case.status != "closed":
            state = state.put(place, status="closed", snoozed_until=None)
    elif case.original != into:
        raise Refusal("already_duplicate")
    return state, state.cases[into].row


def _unmerge(state: State, place: int, link: int) -> tuple[State, None]:
    """It is refused if the case has no original, or got another link since."""
    case = state.cases[place]
    if case.original is None or case.link != link:
        raise Refusal("link_not_found")
    state = state.put(case.original).put(place, original=None, link=None)
    status, until = case.former
    if case.status == "closed" != status:
        state = state.put(place, status=status, snoozed_until=until)
    return state, None


def _split(state: State, place: int, moved: tuple[str, ...]) -> tuple[State, int]:
    """Move texts to a new case, which gets the next place."""
    case = state.cases[place]
    left = tuple(text for text in case.texts if text not in moved)
    if not left:
        raise Refusal("split_leaves_nothing")
    texts = tuple(text for text in case.texts if text in moved)
    kept = {name: getattr(case, name) for name in ("customer", "priority", "agent", "team", "tags")}
    new = CaseState(version=1 + len(texts), texts=texts, **kept)
    return state.put(place, texts=left).add(new), len(state.cases)


def _read(state: State, place: int, _: None) -> tuple[State, Detail]:
    """A case is read as one with its duplicates."""
    case = state.cases[place]
    places = places_shown(state, place)
    shown = [each if number in places else None for number, each in enumerate(state.cases)]
    texts = tuple(each and each.texts for each in shown)
    files = tuple(each and each.files for each in shown)
    related = tuple(sorted(other for link in state.related if place in link for other in link - {place}))
    notes = tuple(sorted(text for of_case in texts for text in of_case or () if text in state.notes))
    return state, Detail(case.row, case.merged_into, texts, files, related, notes)


def _list(state: State, _: int, statuses: tuple[str, ...]) -> tuple[State, tuple[Listed, ...]]:
    """The cases that have one of these statuses; all without one."""
    return state, tuple(
        Listed(place, *case.row[1:], case.merged_into)
        for place, case in enumerate(state.cases)
        if not statuses or case.status in statuses
    )


def _chain(state: State, place: int) -> list[int]:
    """Return a place, and the places of the cases that its case is a duplicate of, directly or by others."""
    chain = [place]
    while (original := state.cases[chain[-1]].original) is not None:
        chain.append(original)
    return chain


def _arrival(state: State, place: int) -> int:
    """Return the place at which a public message or file for a case arrives, which is a case of the same customer."""
    end = place
    while (original := state.cases[end].merged_into) is not None:
        end = original
    return end if state.cases[end].customer == state.cases[place].customer else place


OPERATIONS = {
    "say": _say,
    "say as customer": _say_as_customer,
    "note": _note,
    "prioritize": _prioritize,
    "set status": _set_status,
    "wake": _wake,
    "upload": _upload,
    "remove": _remove,
    "relate": _relate,
    "merge": _merge,
    "unmerge": _unmerge,
    "split": _split,
    "read": _read,
    "list": _list,
}
