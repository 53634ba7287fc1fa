"""Bounds on unread answers: what counts, and what does not count any more."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from aiohttp import web

from support_service.api.routing.endpoint import compile_route
from support_service.api.routing.pipeline import charge
from support_service.api.service import openapi
from support_service.core.domain.principals import Principal
from support_service.core.errors import RateLimited, Unavailable
from support_service.guard.exchange import SMALL_ANSWER_BYTES, Exchange
from support_service.guard.unread_answers import COUNT_INTERVAL, STREAM_BYTES, UnreadAnswers

AGENT = Principal("agent-1", "agent", "agent-1")
CALLER = ("address 192.0.2.1", "principal agent-1")


class Connection:
    def __init__(self):
        self.unread = 0
        self.asked = 0

    def unread_bytes(self):
        self.asked += 1
        return self.unread


def begin(answers, size, callers=CALLER, *, is_streamed=False):
    connection = Connection()
    answers.begin(connection, callers, size, is_streamed=is_streamed)
    connection.unread = size
    return connection


@pytest.mark.parametrize("shared", CALLER)
def test_bound_holds_for_address_and_principal(shared):
    """A caller at its bound is refused by either name, even before the size of its answer is known."""
    answers = UnreadAnswers(1000, 100)
    begin(answers, 60)
    answers.check(CALLER)
    with pytest.raises(RateLimited) as refused:
        answers.check((shared, "another"), 40)
    assert refused.value.code == "answers_unread"
    begin(answers, 40)
    with pytest.raises(RateLimited):
        answers.check((shared, "another"))
    answers.check(("another",), 90)


def test_what_the_client_has_read_does_not_count():
    """Bytes that were read meanwhile leave room for other answers. An answer over the bound is sent if it is alone."""
    answers = UnreadAnswers(1000, 100)
    answers.check(CALLER, 5000)
    connection = begin(answers, 100)
    connection.unread = 10
    with pytest.raises(RateLimited):
        answers.check(CALLER, 80)  # the answer is still in memory as a whole
    answers.end(connection)
    answers.check(CALLER, 80)
    with pytest.raises(RateLimited):
        answers.check(CALLER, 5000)
    connection.unread = 100  # the buffer cannot grow without another answer
    answers.check(CALLER, 80)


def test_bound_in_total():
    """All callers together have a bound, which health and metrics pass over."""
    answers = UnreadAnswers(1000, 600)
    for number in range(2):
        begin(answers, 500, (f"address {number}",))
    with pytest.raises(Unavailable) as refused:
        answers.check(("address 3",))
    assert refused.value.code == "overloaded"
    answers.check(("address 3",), in_total=False)


def test_streamed_answer_counts_for_its_buffer():
    """A stream counts for a fixed number of bytes until it ends, because its handler fills the buffer again."""
    answers = UnreadAnswers(10 * STREAM_BYTES, 2 * STREAM_BYTES)
    connection = begin(answers, 10**9, is_streamed=True)
    connection.unread = 0
    answers.check(CALLER)
    begin(answers, None or STREAM_BYTES, is_streamed=True)
    with pytest.raises(RateLimited):
        answers.check(CALLER)
    answers.end(connection)
    answers.check(CALLER)


def test_nothing_stays_of_answers_that_were_read():
    """Ended answers and connections leave no caller behind; the unread rest of an answer counts on."""
    answers = UnreadAnswers(1000, 100)
    read, left, cut = (begin(answers, 50) for _ in range(3))
    read.unread, left.unread = 0, 20
    for connection in (read, left, cut):
        answers.end(connection)
    answers.remove(cut)
    with pytest.raises(RateLimited):
        answers.check(CALLER, 80)
    answers.begin(left, CALLER, 30, is_streamed=False)
    left.unread = 50
    with pytest.raises(RateLimited):
        answers.check(CALLER, 50)
    answers.remove(left)
    answers.remove(left)
    assert not answers.callers


def test_answer_that_was_not_counted_when_it_began_counts_at_its_end():
    """A small answer is handed to the transport in one step; afterwards only what is unread counts."""
    answers, connection = UnreadAnswers(1000, 100), Connection()
    assert answers.is_read(connection)
    answers.end(connection, CALLER)
    assert not answers.callers
    connection.unread = 100
    assert not answers.is_read(connection)
    answers.end(connection, CALLER)
    with pytest.raises(RateLimited):
        answers.check(CALLER)
    connection.unread = 0
    assert not answers.is_read(connection)  # its bytes count until its next answer, or its end
    answers.end(connection, CALLER)
    assert answers.is_read(connection)
    assert not answers.callers


def test_answers_are_not_counted_for_each_refused_request():
    """While a bound is reached, what clients have read is looked up once in a while, however many ask."""
    times = [0.0]
    answers = UnreadAnswers(1000, 5000, lambda: times[-1])
    slow = [begin(answers, 100, (f"address {number}",)) for number in range(10)]
    for connection in slow:
        answers.end(connection)
    for _ in range(50):
        with pytest.raises(Unavailable):
            answers.check(("another",))
    assert sum(connection.asked for connection in slow) == 2 * 10 + 10  # at its beginning, its end, and once more
    for connection in slow:
        connection.unread = 10
    times.append(COUNT_INTERVAL)
    answers.check(("another",))


def test_only_large_answers_that_are_sent_need_room(instruments):
    """An answer to HEAD has no body, and a small one is sent although its caller has reached the bound meanwhile."""
    answers = UnreadAnswers(10**6, 10**5)
    begin(answers, 10**5 - 1)
    guard = SimpleNamespace(unread_answers=answers, instruments=instruments, principal_limiter=None)
    public = compile_route(openapi, ())
    for method, size, refused in (
        ("GET", SMALL_ANSWER_BYTES, False),
        ("HEAD", 10**6, False),
        ("GET", SMALL_ANSWER_BYTES + 1, True),
    ):
        exchange = Exchange(guard, method, {}, is_limited=True, scheme="http", address="192.0.2.1", principal=AGENT)
        with pytest.raises(RateLimited) if refused else nullcontext():
            charge(exchange, public, web.Response(body=bytes(size)))
