"""The model of a few cases that may be merged: what each operation answers, and the state that it leaves behind.

`apply` is pure. The state machines compare its answers with the answers of a service that does one thing after another.
The checker searches for an order of concurrent calls in which the service and the model answer the same.
"""

from typing import Any, NamedTuple

MOVES = {
    "open": {"pending", "resolved", "closed"},
    "pending": {"open", "resolved", "closed"},
    "resolved": {"open", "pending", "closed"},
    "closed": {"open"},
}
READS = ("read", "list")


class Operation(NamedTuple):
    """What a caller wants of the case at a place; `version` is that of `If-Match`, `key` makes repeats harmless."""

    name: str
    place: int = 0
    value: Any = None
    version: int | None = None
    key: str | None = None

    @property
    def is_read(self) -> bool:
        """Whether it changes nothing."""
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

    @property
    def row(self) -> Row:
        """The case as answers to changes show it."""
        return Row(self.version, self.status, self.priority, self.snoozed_until)

    @property
    def merged_into(self) -> int | None:
        """The place of the original, as answers show it."""
        return self.original if self.status == "closed" else None


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


def _prioritize(state: State, place: int, priority: str) -> tuple[State, Row]:
    if priority != state.cases[place].priority:
        state = state.put(place, priority=priority)
    return state, state.cases[place].row


def _set_status(state: State, place: int, value: tuple[str, str | None]) -> tuple[State, Row]:
    """The status, and the time until which the case is snoozed."""
    case, (status, until) = state.cases[place], value
    if status != case.status and status not in MOVES[case.status]:
        raise Refusal("status_move_not_allowed")
    if (status, until) != (case.status, case.snoozed_until):
        fields = {"status": status, "snoozed_until": until}
        # A merge that is undone does not change the status of a duplicate that was opened meanwhile.
        fields |= {"former": ("closed", None)} if case.status == "closed" != status else {}
        state = state.put(place, **fields)
    return state, state.cases[place].row


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
    new = CaseState(case.customer, 1 + len(texts), priority=case.priority, texts=texts)
    state = state.put(place, texts=left)
    return state._replace(cases=(*state.cases, new)), len(state.cases)


def _read(state: State, place: int, _: None) -> tuple[State, Detail]:
    """A case is read as one with its duplicates."""
    case = state.cases[place]
    shown = [each if place in _chain(state, number) else None for number, each in enumerate(state.cases)]
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
