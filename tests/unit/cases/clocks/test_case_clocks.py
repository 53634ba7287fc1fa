"""The clocks of a case are what a walk minute by minute finds, whatever happens to the case."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from support_service.cases.case_rules import ALLOWED_STATUS_CHANGES
from support_service.cases.clocks import case_clocks
from support_service.cases.clocks.calendar import AllHours
from support_service.cases.clocks.case_clocks import Clocks, PolicyTerms
from support_service.core.domain.case_vocabulary import CLOCK_TARGETS
from tests.support.clocks.minute_walk import MINUTE, NaiveCase, walk
from tests.support.clocks.strategies import calendars, instants
from tests.support.examples import examples

AT = datetime(2026, 6, 10, 8, tzinfo=UTC)
CHANGES = ("agent", "customer", "open", "pending", "resolved", "closed")
# Several changes at the same instant are as likely as long pauses.
steps = st.lists(st.tuples(st.sampled_from([0, 0, 1, 7, 60, 300, 1440]), st.sampled_from(CHANGES)), max_size=8)
targets = st.dictionaries(st.sampled_from(CLOCK_TARGETS), st.integers(1, 1500), min_size=1)


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


def terms_of(**allowed: float) -> PolicyTerms:
    return PolicyTerms({name: hours(number) for name, number in allowed.items()}, AllHours())  # type: ignore[misc]


def states(clocks: Clocks) -> dict[str, str]:
    return {target: clock.state for target, clock in clocks.items()}


@examples(2)
@given(calendars(), instants(), targets, st.sampled_from([None, "agent", "customer"]), steps)
def test_clocks_are_what_a_walk_minute_by_minute_finds(pair, start, allowed, author, changes):
    """State, due time and time left agree after every change of the case."""
    calendar, naive_calendar = pair
    if not any(naive_calendar.spans.values()):
        return
    terms = PolicyTerms({name: timedelta(minutes=each) for name, each in allowed.items()}, calendar)  # type: ignore[misc]
    naive = NaiveCase(naive_calendar, allowed)
    naive.open(author)
    clocks, at, status = case_clocks.clocks_of_new_case(terms, start, author), start, "open"
    is_answered = author == "agent"
    for minutes, change in changes:
        for minute in walk(at, at + minutes * MINUTE):
            naive.look(minute)
            naive.count(minute)
        at += minutes * MINUTE
        naive.look(at)
        if change in ("agent", "customer"):
            naive.message(change)
            if change == "agent":
                is_answered, clocks = True, case_clocks.clocks_after_agent_message(terms, clocks, at)
            else:
                clocks = case_clocks.clocks_after_customer_message(terms, clocks, at, is_answered=is_answered)
        elif change in ALLOWED_STATUS_CHANGES[status]:  # type: ignore[index]
            naive.change_status(change)
            clocks = case_clocks.clocks_after_status_change(terms, clocks, at, status, change)  # type: ignore[arg-type]
            status = change
        naive.look(at)
        assert states({target: clock.breached_if_overdue(at) for target, clock in clocks.items()}) == {
            target: clock.state for target, clock in naive.clocks.items()
        }
        for target, clock in naive.clocks.items():
            left = 0 if clock.breached else clock.allowance - clock.used
            assert clocks[target].remaining(calendar, at) == left * MINUTE  # type: ignore[index]
            if clock.breached:
                assert clocks[target].due_at == clock.due  # type: ignore[index]


def test_a_paused_clock_is_due_as_before_and_one_of_a_resolved_case_does_not_run() -> None:
    """A reopened case goes on: the time in between does not count."""
    terms = terms_of(firstResponse=4, resolution=8)
    started = clocks = case_clocks.clocks_of_new_case(terms, AT, "customer")
    for _ in range(3):
        clocks = case_clocks.clocks_after_status_change(terms, clocks, AT + hours(3), "open", "pending")
        assert (states(clocks)["resolution"], clocks["resolution"].due_at) == ("paused", None)
        clocks = case_clocks.clocks_after_status_change(terms, clocks, AT + hours(3), "pending", "open")
    assert clocks["resolution"].due_at == started["resolution"].due_at
    clocks = case_clocks.clocks_after_status_change(terms, started, AT + hours(1), "open", "resolved")
    assert states(clocks) == {"firstResponse": "paused", "resolution": "met"}
    clocks = case_clocks.clocks_after_status_change(terms, clocks, AT + hours(100), "resolved", "open")
    assert states(clocks) == {"firstResponse": "running", "resolution": "running"}
    assert [clocks[name].due_at for name in ("firstResponse", "resolution")] == [AT + hours(103), AT + hours(107)]


def test_an_answer_at_the_due_time_is_in_time_and_one_after_it_is_late() -> None:
    """A late answer ends the clock, which stays breached."""
    terms = terms_of(firstResponse=4)
    clocks = case_clocks.clocks_of_new_case(terms, AT, "customer")
    assert states(case_clocks.clocks_after_agent_message(terms, clocks, AT + hours(4))) == {"firstResponse": "met"}
    late = case_clocks.clocks_after_agent_message(terms, clocks, AT + hours(5))["firstResponse"]
    assert (late.state, late.due_at, late.is_waiting) == ("breached", AT + hours(4), False)
    assert late.used_share == 1.25


def test_each_wait_for_a_next_answer_has_its_own_time() -> None:
    """It begins with the first message after an answer; further ones of the customer do not extend it."""
    terms = terms_of(nextResponse=2)
    clocks = case_clocks.clocks_after_customer_message(terms, {}, AT, is_answered=False)
    assert clocks == {}
    clocks = case_clocks.clocks_after_customer_message(terms, clocks, AT, is_answered=True)
    clocks = case_clocks.clocks_after_customer_message(terms, clocks, AT + hours(1), is_answered=True)
    assert clocks["nextResponse"].due_at == AT + hours(2)
    clocks = case_clocks.clocks_after_agent_message(terms, clocks, AT + hours(3))
    assert states(clocks) == {"nextResponse": "breached"}
    clocks = case_clocks.clocks_after_customer_message(terms, clocks, AT + hours(4), is_answered=True)
    assert states(clocks) == {"nextResponse": "running"}
    assert clocks["nextResponse"].due_at == AT + hours(6)
