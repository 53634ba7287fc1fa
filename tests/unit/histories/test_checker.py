"""The checker of histories accepts what a correct service may answer, and finds each kind of planted error.

A simulated service makes the histories. Each call takes effect at one moment between its begin and its end.
"""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.each import each_row
from tests.support.histories.checker import MAX_CONCURRENT, Call, SearchTooLong, is_linearizable, shrink
from tests.support.histories.clients import History
from tests.support.histories.model import READS, AnswerLost, Detail, Operation, RefusedAnswer, Row, State, apply, opened

OPENED = opened("customer", "customer")
CALLS = 60  # of a history
HISTORIES = 4  # with each error
SEEDS = 1000  # at most, of which so many histories must have the error
TEXTS = ("say", "say as customer", "note")
BOTH = (Operation("read", 0), Operation("read", 1))
STATUSES = ("open", "pending", "resolved", "closed")


@dataclass(frozen=True)
class Moment:
    """What happens at one moment: an operation, what the model does, and all states before, the newest last."""

    operation: Operation
    past: list[State]
    after: State
    answer: Any

    @property
    def name(self):
        return self.operation.name

    @property
    def before(self):
        return self.past[-1]

    @property
    def case(self):
        """The case of the operation before it."""
        return self.before.cases[self.operation.place]

    @property
    def is_first(self):
        """Whether it has an effect: it is answered, and no repeat of a key."""
        is_repeat = self.operation.key in {key for key, _ in self.before.answers}
        return not self.operation.is_read and not isinstance(self.answer, RefusedAnswer) and not is_repeat


def draw_operation(draw, number, state):
    """Return an operation of chance. Its texts and names have a number."""
    changes = ("prioritize", "set status", "upload", "remove", "relate", "merge", "unmerge")
    name = draw.choice((*TEXTS, "say", *changes, *READS * 3))
    place = draw.randrange(len(state.cases))
    link = state.cases[place].link
    value = {
        **dict.fromkeys(TEXTS, f"text {number}"),
        "prioritize": draw.choice(("low", "normal", "high")),
        "set status": draw.choice((*((status, None) for status in STATUSES), ("pending", f"time {number}"))),
        "upload": (f"file {number}", f"sha {number}"),
        "remove": draw.choice([name for name, _ in state.cases[place].files] or ["no file"]),
        "relate": 1 - place,
        "merge": 1 - place,
        "unmerge": draw.choice((link, link, draw.randint(2, 9))),
        "list": draw.choice(((), ("open",), ("closed", "pending"))),
    }.get(name)
    if name in READS:
        return Operation(name, place, value)
    version = state.cases[place].version - draw.choice((0, 0, 1)) if draw.random() < 0.3 else None
    return Operation(name, place, value, version, f"key {number}" if draw.random() < 0.3 else None)


def no_error(_):
    """Leave the service as it is."""


def simulate(seed, error: Callable[[Moment], tuple[State, Any] | None] = no_error, *, spread=4.0, lost=0.1):
    """Return a history, and whether an error is in it, which is planted at most once.

    A call lasts up to `spread` before its moment and after it, and a share of the answers to writes is `lost`. Some
    writes are repeated with their key. After the error, and at the end, both cases are read.
    """
    draw, past, history, keyed = random.Random(seed), [OPENED], [], []
    free = {}  # when each client has its answer
    is_planted, reads = False, []
    for number in range(CALLS):
        operation = draw.choice(keyed) if keyed and draw.random() < 0.1 else draw_operation(draw, number, past[-1])
        if reads:
            operation = reads.pop()
        after, answer = apply(past[-1], operation)
        wrong = error(Moment(operation, past, after, answer)) if not is_planted and number > CALLS / 4 else None
        is_wrong = wrong not in (None, (after, answer))
        if is_wrong:
            is_planted, (after, answer) = True, wrong
            reads += BOTH
        past.append(after)
        keyed += [operation] if operation.key else []
        client = next((each for each, end in free.items() if end < number), f"client {len(free)}")
        begin = max(free.get(client, 0.0), number - draw.uniform(0, spread))
        end = number + draw.uniform(0, spread)
        free[client] = end
        if not is_wrong and not operation.is_read and draw.random() < lost:
            end, answer = inf, None
        elif not is_wrong and operation.key and draw.random() < lost and not isinstance(answer, RefusedAnswer):
            answer = AnswerLost()
        history.append(Call(client, operation, begin, end, answer))
    at = CALLS + spread
    history += [Call("reader", read, at, at, apply(past[-1], read)[1]) for read in BOTH]
    return history, is_planted


def with_case(state, place, **fields):
    case = state.cases[place]._replace(**fields)
    return state._replace(cases=(*state.cases[:place], case, *state.cases[place + 1 :]))


ERRORS = []


def planted(error):
    """Let the tests plant an error."""
    ERRORS.append(error)
    return error


def at_first(*names):
    """Plant an error at the first operation of these names that has an effect."""

    def decorate(error):
        return planted(wraps(error)(lambda moment: error(moment) if moment.name in names and moment.is_first else None))

    return decorate


def at_read(error):
    """Plant an error in the first read of a case in which it is possible."""
    return planted(wraps(error)(lambda moment: error(moment) if isinstance(moment.answer, Detail) else None))


@at_first(*TEXTS, "upload", "merge")
def write_is_lost(moment):
    return None if moment.operation.key else (moment.before, moment.answer)  # a repeat of the key would make it


@at_first(*TEXTS)
def text_is_doubled(moment):
    return apply(moment.after, moment.operation._replace(key=None, version=None))[0], moment.answer


@at_read
def read_is_stale(moment):
    """It shows what was there before any concurrent call began."""
    place = moment.operation.place
    old = moment.past[max(0, len(moment.past) - 16)]
    return None if old.cases[place] == moment.case else (moment.after, apply(old, moment.operation)[1])


@at_read
def read_shows_the_text_of_no_write(moment):
    place = moment.operation.place
    texts = list(moment.answer.texts)
    texts[place] = (*texts[place], "text of nobody")
    return moment.after, moment.answer._replace(texts=tuple(texts))


@at_read
def texts_change_their_order(moment):
    place = moment.operation.place
    texts = moment.case.texts
    if len(texts) < 2:
        return None
    swapped = with_case(moment.after, place, texts=(*texts[:-2], texts[-1], texts[-2]))
    return moment.after, apply(swapped, moment.operation)[1]


@at_read
def internal_note_is_hidden_from_staff(moment):
    place = moment.operation.place
    if not moment.case.texts:
        return None
    return moment.after, apply(with_case(moment.after, place, texts=moment.case.texts[1:]), moment.operation)[1]


@at_first(*TEXTS, "upload", "remove")
def version_is_used_again(moment):
    place = moment.answer if isinstance(moment.answer, int) else moment.operation.place
    return with_case(moment.after, place, version=moment.before.cases[place].version), moment.answer


@at_first("note", "upload", "remove")
def version_is_left_out(moment):
    place = moment.answer if isinstance(moment.answer, int) else moment.operation.place
    return with_case(moment.after, place, version=moment.after.cases[place].version + 1), moment.answer


@planted
def old_version_is_accepted(moment):
    if moment.answer != RefusedAnswer("case_changed"):
        return None
    after, answer = apply(moment.before, moment.operation._replace(version=None))
    return None if isinstance(answer, RefusedAnswer) or after == moment.before else (after, answer)


@planted
def present_version_is_refused(moment):
    is_conditional = moment.is_first and moment.operation.version is not None
    return (moment.before, RefusedAnswer("case_changed")) if is_conditional else None


@planted
def repeat_of_a_key_takes_effect_again(moment):
    if moment.is_first or moment.name not in TEXTS or isinstance(moment.answer, RefusedAnswer):
        return None
    after, answer = apply(moment.before, moment.operation._replace(key=None, version=None))
    return None if isinstance(answer, RefusedAnswer) else (after, moment.answer)


@planted
def repeat_of_a_key_gets_another_answer(moment):
    if moment.is_first or not isinstance(moment.answer, Row):
        return None
    return moment.after, moment.answer._replace(version=moment.answer.version + 1)


@planted
def effect_of_a_lost_answer_is_missing(moment):
    return (moment.before, AnswerLost()) if moment.name in TEXTS and moment.is_first else None


@at_first(*TEXTS, "prioritize", "upload")
def refused_write_takes_effect(moment):
    return moment.after, RefusedAnswer("case_changed")


@planted
def closed_case_gets_another_status(moment):
    if moment.answer != RefusedAnswer("status_move_not_allowed"):
        return None
    after = with_case(moment.before, moment.operation.place, status="resolved", version=moment.case.version + 1)
    return after, after.cases[moment.operation.place].row


@at_first("say as customer")
def text_of_a_customer_opens_no_resolved_case(moment):
    place = moment.answer
    before, after = moment.before.cases[place], moment.after.cases[place]
    if before.status == after.status:
        return None
    return with_case(moment.after, place, status=before.status, snoozed_until=before.snoozed_until), moment.answer


@at_first("set status")
def snooze_is_forgotten(moment):
    place = moment.operation.place
    until = moment.after.cases[place].snoozed_until
    return (with_case(moment.after, place, snoozed_until=None), moment.answer) if until else None


@at_first("set status")
def snoozed_case_opens_too_early(moment):
    place = moment.operation.place
    until = moment.after.cases[place].snoozed_until
    return (apply(moment.after, Operation("wake", place, until))[0], moment.answer) if until else None


@at_first("merge")
def merge_leaves_the_duplicate_open(moment):
    place = moment.operation.place
    if moment.case.status == "closed":
        return None
    return with_case(moment.after, place, status=moment.case.status), moment.answer


@at_first("say", "upload")
def text_for_a_duplicate_does_not_arrive_in_its_original(moment):
    place = moment.operation.place
    if moment.answer == place:
        return None
    alone = with_case(moment.before, place, original=None)
    after = apply(alone, moment.operation)[0]
    return with_case(after, place, original=moment.case.original), place


@at_first("unmerge")
def undone_merge_does_not_restore_the_status(moment):
    place = moment.operation.place
    if moment.after.cases[place].status == "closed":
        return None
    return with_case(moment.after, place, status="closed"), moment.answer


@at_first("unmerge")
def undo_of_a_merge_is_refused(moment):
    return moment.before, RefusedAnswer("link_not_found")


@at_read
def file_is_lost(moment):
    place = moment.operation.place
    if not moment.case.files:
        return None
    after = with_case(moment.after, place, files=moment.case.files[1:])
    return after, apply(after, moment.operation)[1]


@at_first("relate")
def related_link_is_lost(moment):
    after = moment.after._replace(related=moment.before.related)
    return None if after == moment.after else (after, moment.answer)


@at_first("prioritize", "remove")
def other_change_loses_a_related_link(moment):
    after = moment.after._replace(related=frozenset())
    return None if after == moment.after else (after, moment.answer)


@at_read
def related_link_is_hidden(moment):
    return (moment.after, moment.answer._replace(related=())) if moment.answer.related else None


@at_read
def link_of_nobody_is_shown(moment):
    place = moment.operation.place
    return None if moment.answer.related else (moment.after, moment.answer._replace(related=(1 - place,)))


@at_first("note")
def note_is_stored_as_public(moment):
    return moment.after._replace(notes=moment.before.notes), moment.answer


@at_first("say", "say as customer")
def public_text_is_stored_as_note(moment):
    return moment.after._replace(notes=moment.before.notes | {moment.operation.value}), moment.answer


@at_read
def note_is_shown_as_public(moment):
    return (moment.after, moment.answer._replace(notes=moment.answer.notes[1:])) if moment.answer.notes else None


@at_first("upload")
def file_has_other_bytes(moment):
    place = moment.answer
    files = moment.after.cases[place].files
    return with_case(moment.after, place, files=(*files[:-1], (files[-1][0], "other"))), moment.answer


@at_first("remove")
def removed_file_is_still_there(moment):
    return with_case(moment.after, moment.operation.place, files=moment.case.files), moment.answer


@planted
def list_shows_another_status(moment):
    if moment.name != "list" or not moment.answer:
        return None
    first, *others = moment.answer
    return moment.after, (first._replace(status="resolved" if first.status == "open" else "open"), *others)


@planted
def list_leaves_a_case_out(moment):
    return (moment.after, moment.answer[1:]) if moment.name == "list" and moment.answer else None


def histories_with(error, **options):
    """Return histories that have a planted error."""
    simulated = (simulate(seed, error, **options) for seed in range(SEEDS))
    found = [*itertools.islice((history for history, is_planted in simulated if is_planted), HISTORIES)]
    assert len(found) == HISTORIES
    return found


def test_history_of_a_correct_service_is_accepted():
    """With concurrent calls, lost answers, repeats of keys and refusals."""
    for seed in range(40):
        assert is_linearizable(simulate(seed)[0], OPENED), seed


@each_row("error", ERRORS, (error.__name__ for error in ERRORS))
def test_planted_error_is_found(error):
    """Always, if no concurrent call and no write with a lost answer explains what the service did."""
    for history in histories_with(error, spread=0.4, lost=0.0):
        assert not is_linearizable(history, OPENED)


def test_planted_errors_are_found_among_concurrent_calls():
    """Nearly all: a concurrent call, or a write whose answer is lost, may explain what the service did."""
    found = {
        error.__name__: sum(not is_linearizable(history, OPENED) for history in histories_with(error))
        for error in ERRORS
    }
    assert min(found.values()) >= 1, found
    assert sum(found.values()) >= 0.9 * HISTORIES * len(ERRORS), found


@pytest.mark.parametrize(
    "error",
    [text_is_doubled, present_version_is_refused, file_has_other_bytes, list_leaves_a_case_out],
    ids=lambda error: error.__name__,
)
def test_smallest_wrong_part_is_found(error):
    """Of a history with concurrent calls. It is wrong, whichever of the other writes happened."""
    history = next(each for each in histories_with(error) if not is_linearizable(each, OPENED))
    wrong, others = shrink(history, OPENED)
    assert not is_linearizable([*wrong, *others], OPENED)
    assert 1 <= len(wrong) <= 10, "\n".join(map(str, wrong))


def test_undo_of_a_merge_is_refused_only_without_the_link_that_it_names():
    """That of the first merge is gone after it was undone, also if the case is merged again."""
    merge, undo, read = Operation("merge", 0, 1), Operation("unmerge", 0, 2), Operation("read", 0)
    state, history = OPENED, []
    for number, operation in enumerate((merge, undo, merge, undo, read)):
        state, answer = apply(state, operation)
        history.append(Call("a", operation, number, number + 0.5, answer))
    refused = RefusedAnswer("link_not_found")
    assert history[3].answer == refused
    assert is_linearizable(history, OPENED)
    state, shown = apply(apply(OPENED, merge)[0], read)
    steps = ((merge, history[0].answer), (undo, refused), (read, shown))
    wrong = [Call("a", operation, number, number + 0.5, answer) for number, (operation, answer) in enumerate(steps)]
    assert not is_linearizable(wrong, OPENED)


def test_link_of_a_recorded_call_is_that_of_the_model():
    """The audit log of the duplicate tells which version added it. A related case has another kind of link."""
    history = History("customer")
    added = [("related", "link-1"), ("duplicated-by", "link-2"), ("duplicate-of", "link-3")]
    changes = [{"kind": [None, kind], "linkId": [None, link]} for kind, link in added]
    entries = [("case.opened", None), *(("link.added", each) for each in changes), ("case.closed", None)]
    history.note_links([SimpleNamespace(action=action, changes=changes) for action, changes in entries])
    assert history.link_versions == {"link-3": 4}
    history.calls = [Call("a", Operation("unmerge", 0, link), 0.0) for link in ("link-3", "link-1")]
    assert [call.operation.value for call in history.recorded()] == [4, None]


def test_too_many_concurrent_calls_are_refused():
    """Rather than searched for days."""
    say = [Call("a", Operation("say", 0, str(number)), 0.0, 1.0, 0) for number in range(MAX_CONCURRENT + 1)]
    assert is_linearizable(say[1:], OPENED)
    with pytest.raises(ValueError, match="51 calls are concurrent"):
        is_linearizable(say, OPENED)


def test_search_that_takes_too_long_says_so():
    """It knows nothing of the history then."""
    with pytest.raises(SearchTooLong):
        is_linearizable(simulate(1)[0], OPENED, max_steps=10)
