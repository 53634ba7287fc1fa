"""Callers: how many count as served and as refused, and what the log says about refused ones."""

import pytest

from support_service.core.errors import Forbidden, Unauthenticated
from support_service.platform.access import callers as module
from support_service.platform.access.callers import Callers
from support_service.platform.access.timings import CallerTimings

EXPIRED = Unauthenticated("token_expired", "The token has expired.")
EXPIRED_OF_SYNC = Unauthenticated("token_expired", "The token has expired.")
EXPIRED_OF_SYNC.caller = "crm-sync"
FORBIDDEN = Forbidden("permission_missing", "A permission is missing.")


class Rig:
    """Callers with a clock that a test moves."""

    def __init__(self):
        self.now = 1000.0
        self.callers = Callers(self, CallerTimings(window=300, line_interval=60), lambda: self.now)

    def observe(self, _, read):
        self.read = read

    def numbers(self):
        return {labels["outcome"]: number for number, labels in self.read() if number}

    def refuse(self, token, times=1, refusal=EXPIRED):
        for _ in range(times):
            self.callers.note_refused(token, refusal, "10.0.0.7")


@pytest.fixture
def rig():
    return Rig()


def test_caller_counts_once_for_all_its_tokens_and_requests(rig):
    """A person has several tokens in a day, and one who writes reads too."""
    for token in ("one", "two", "one"):
        rig.callers.note_accepted(token, "ann", writes=token == "two")
    rig.callers.note_accepted("three", "bob", writes=False)
    assert rig.numbers() == {"accepted": 2, "writing": 1}
    rig.now += 301
    assert rig.numbers() == {}


def test_token_counts_as_refused_from_the_second_time_on(rig):
    """One refusal is how a client learns that it needs a new token; a caller that is refused is no accepted one."""
    rig.callers.note_accepted("one", "ann", writes=False)
    rig.refuse("one")
    assert rig.numbers() == {}
    rig.refuse("one", 5)
    rig.refuse("guessed")
    assert rig.numbers() == {"refused": 1}
    rig.refuse("two", 2, Unauthenticated("token_missing", "Send a token."))
    assert rig.numbers() == {"refused": 1}
    rig.now += 301
    rig.refuse("one")
    assert rig.numbers() == {}


def test_log_names_the_caller_of_a_refused_token_once_a_minute(rig, caplog):
    """By the token, which may be unknown at first, or from when it was accepted. The token is in no line."""

    def line(caller, code, times):
        return f"Requests of {caller} from 10.0.0.7 are refused: {code} ({times} since the last such line)"

    rig.callers.note_accepted("secret-1", "ann", writes=False)
    rig.refuse("secret-1", 7)
    rig.refuse("secret-2", 2, EXPIRED_OF_SYNC)
    rig.refuse("secret-3", 2, Unauthenticated("token_invalid", "It is unknown."))
    assert caplog.messages == [
        line("ann", "token_expired", 2),
        line("crm-sync", "token_expired", 2),
        line("an unknown caller", "token_invalid", 2),
    ]
    rig.now += 61
    rig.refuse("secret-1")
    rig.refuse("secret-3", 1, EXPIRED_OF_SYNC)
    assert caplog.messages[3:] == [line("ann", "token_expired", 6), line("crm-sync", "token_expired", 1)]
    assert "secret" not in caplog.text


def test_callers_whose_changes_are_forbidden_count_and_are_named(rig, caplog):
    """Also before the token is read: the caller is known from earlier requests, or counts by the token."""
    for name, times in (("ann", 3), ("bob", 1)):
        rig.callers.note_accepted(name, name, writes=True)
        for _ in range(times):
            rig.callers.note_forbidden(name, name, FORBIDDEN, "10.0.0.7")
    assert rig.numbers() == {"accepted": 2, "writing": 2, "forbidden": 1}
    other_origin = Forbidden("origin_not_allowed", "Another origin.")
    for token in ("bob", "unknown", "unknown"):
        rig.callers.note_forbidden(token, None, other_origin, "10.0.0.7")
    assert rig.numbers() == {"accepted": 2, "writing": 3, "forbidden": 3}
    assert caplog.messages == [
        f"Changes of {caller} from 10.0.0.7 are refused: {code} (2 since the last such line)"
        for caller, code in (
            ("ann", "permission_missing"),
            ("bob", "origin_not_allowed"),
            ("an unknown caller", "origin_not_allowed"),
        )
    ]


def test_memory_and_lines_are_bounded(rig, caplog, monkeypatch):
    """Further callers do not count, until earlier ones are forgotten."""
    monkeypatch.setattr(module, "MAX_CALLERS", 100)
    for number in range(300):
        rig.refuse(f"token {number}", 2)
    assert rig.numbers() == {"refused": 100}
    assert len(caplog.messages) == module.MAX_LINES
    rig.now += 301
    rig.refuse("another", 2)
    assert rig.numbers() == {"refused": 1}
