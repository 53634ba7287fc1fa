"""What clients of a history make of answers: a fault explains some of them, and the others are errors."""

from datetime import UTC, datetime, timedelta

import pytest

from support_service.cases.model import examples
from support_service.client import Case, SupportError
from support_service.client.errors import NoAnswer, error_of_answer
from tests.support.histories.clients import LOAD_BALANCER_ERROR, Caller, History, KnownCases, until_answered
from tests.support.histories.model import AnswerLost, Operation, RefusedAnswer

MERGE = Operation("merge", 0, 1)


def answer(status, code):
    """Return the error of an answer with a problem."""
    return error_of_answer(status, {"X-Request-Id": "r-1"}, f'{{"code": "{code}"}}'.encode())


def snooze(seconds):
    """Return a snooze that ends so many seconds from now."""
    until = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    return Operation("set status", 0, ("pending", until))


class FailingHistory(History):
    """A history whose requests all fail."""

    def __init__(self, failure):
        super().__init__("customer")
        self.failure = failure

    async def perform(self, _client, _operation):
        raise self.failure


async def call(failure, operation=MERGE):
    """Make a call whose request fails; return the answers that the history has recorded for it."""
    history, caller = FailingHistory(failure), Caller("a", None, seed=19)  # a client that gives up at once
    await caller.call(history, operation)
    return [each.answer if each.is_answered else None for each in history.calls]


@pytest.mark.parametrize(
    "failure",
    [
        NoAnswer("the connection was closed"),
        answer(408, "body_too_slow"),
        answer(409, "idempotency_key_in_use"),
        answer(429, "searches_waiting"),
        answer(500, LOAD_BALANCER_ERROR),
        answer(502, "http_error"),
        answer(503, "commit_not_replicated"),
        answer(504, "http_error"),
    ],
    ids=lambda failure: failure.code,
)
async def test_call_whose_answer_a_fault_explains_may_have_happened(failure):
    """It is recorded without an answer."""
    assert await call(failure) == [None]


@pytest.mark.parametrize("status", [400, 401, 403, 405, 413, 415, 429, 500, 501, 507])
async def test_answer_that_no_fault_explains_is_an_error(status):
    """The report names the status, the code, the request and the operation."""
    with pytest.raises(SupportError) as found:
        await call(answer(status, "some_code"))
    assert found.value.__notes__ == [f"status {status} some_code, request r-1: {MERGE}"]


async def test_case_that_is_refused_without_a_fault_is_not_tried_again():
    """Neither a defect nor an invalid request passes."""

    async def open_case():
        raise failure

    for failure in (answer(500, "internal_error"), answer(422, "invalid_request"), answer(404, "case_not_found")):
        with pytest.raises(SupportError) as found:
            await until_answered(open_case)
        assert found.value is failure


async def test_refusal_and_lost_answer_are_answers():
    """The checker compares them with the answers of the model."""
    assert await call(answer(412, "case_changed")) == [RefusedAnswer("case_changed")]
    assert await call(answer(409, "idempotency_answer_lost")) == [AnswerLost()]


def link(kind, case_id):
    """Return a link to a case, as a read shows it."""
    return examples.LINK | {"kind": kind, "caseId": case_id}


def message(case_id, text):
    return examples.MESSAGE | {"ticketId": case_id, "message": text}


def attachment(case_id):
    return examples.ATTACHMENT | {"ticketId": case_id}


class OneCaseClient:
    """A client that reads the same case each time."""

    def __init__(self, **fields):
        parts = {"messages": [message("case-1", "first")], "attachments": [attachment("case-1")], "links": []}
        self._case = Case.model_validate(examples.CASE | {"id": "case-1", **parts, **fields})

    async def get_case(self, _case_id):
        return self._case


async def read(**fields):
    """Return what a read of a case with other fields shows of three known cases."""
    known = KnownCases({}, ids=["case-1", "case-2", "case-3"])
    return await known.perform(OneCaseClient(**fields), Operation("read", 0))


async def test_read_shows_duplicates_and_their_duplicates():
    """Only the first of them is in the links of the case. A case without a message may be one, too."""
    messages = [message("case-1", "first"), message("case-3", "third")]
    shown = await read(links=[link("duplicated-by", "case-2")], messages=messages)
    assert shown.texts == (("first",), (), ("third",))
    assert shown.files == ((("label.png", examples.ATTACHMENT["sha256"]),), (), ())
    assert (await read()).texts == (("first",), None, None)


async def test_read_shows_related_cases_and_notes():
    """The checker compares them with what the model predicts."""
    messages = [message("case-1", "b"), message("case-1", "c") | {"visibility": "internal"}]
    messages += [message("case-2", "a") | {"visibility": "internal"}]
    links = [link("related", "case-3"), link("duplicated-by", "case-2"), link("related", "case-2")]
    shown = await read(messages=messages, links=links)
    assert (shown.related, shown.notes) == ((1, 2), ("a", "c"))


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [message("case-1", "first"), message("case-4", "fourth")]},
        {"attachments": [attachment("case-4")]},
        {"links": [link("duplicated-by", "case-4")]},
        {"links": [link("related", "case-4")]},
        {"mergedInto": "case-4"},
    ],
    ids=["message", "file", "duplicate", "related case", "original"],
)
async def test_read_that_shows_a_foreign_case_is_an_error(fields):
    """Nobody may be shown what belongs to another history."""
    with pytest.raises(AssertionError, match="case-4, which is none of"):
        await read(**fields)


async def test_invalid_request_is_explained_by_the_end_of_a_snooze_only():
    """The model refuses no snooze, and refuses nothing with this code."""
    invalid = answer(422, "invalid_request")
    assert await call(invalid, snooze(-1)) == [None]
    for operation in (snooze(60), MERGE, Operation("set status", 0, ("closed", None))):
        assert await call(invalid, operation) == [RefusedAnswer("invalid_request")]
