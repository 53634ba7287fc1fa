"""Problems become exceptions."""

import json

import pytest

from support_service.client import NotFound, ServiceFailed, SupportError, Unavailable, ValidationFailed, VersionConflict
from support_service.client.errors import error_of_answer
from support_service.core import errors
from support_service.core.errors import FieldError
from support_service.core.problem_codes import PROBLEM_CODES

MESSAGE = {"id": "m-1", "ticketId": "c-1", "authorType": "customer", "message": "One more thing"}
MESSAGE |= {"attachmentUri": None, "sentiment": None, "metadata": None, "visibility": "public"}
MESSAGE["createdAt"] = "2026-05-12T08:30:00.125000Z"


def problem(status, **members):
    document = {"status": status, "code": "a_code", "detail": "What to do.", "requestId": "r-1"} | members
    return error_of_answer(status, {"X-Request-Id": "r-1"}, json.dumps(document).encode())


def test_exception_has_what_the_problem_says():
    """A conflict tells the current version and the new messages, too."""
    error = problem(422, code="invalid_request", errors=[{"field": "subject", "message": "must not be blank"}])
    assert isinstance(error, ValidationFailed)
    assert (error.code, error.status, error.request_id) == ("invalid_request", 422, "r-1")
    assert error.errors == (FieldError("subject", "must not be blank"),)
    assert str(error) == "What to do. (subject: must not be blank)"
    conflict = problem(412, currentVersion=7, messages=[MESSAGE])
    assert isinstance(conflict, VersionConflict)
    assert (conflict.current_version, [message.message for message in conflict.messages]) == (7, ["One more thing"])
    other = problem(412, messages="none")
    assert (other.current_version, other.messages) == (None, [])
    assert isinstance(problem(404), NotFound)


def test_statuses_have_the_kinds_that_the_service_raises():
    """A status without a kind of its own has that of its class of statuses."""
    for code in PROBLEM_CODES:
        if code.status:
            error = problem(code.status, code=code.name)
            assert (error.code, error.status) == (code.name, code.status)
            assert type(error) is type(errors.problem(code.name, "")) or type(error) is ServiceFailed
    assert [type(problem(status)) for status in (500, 502, 418)] == [ServiceFailed, ServiceFailed, SupportError]
    assert [type(problem(status)) for status in (503, 507)] == [Unavailable] * 2
    assert [type(problem(status)) for status in (400, 413, 415, 422)] == [ValidationFailed] * 4


@pytest.mark.parametrize("body", [b"<html>503</html>", b"", b"[]", b'{"errors": 7, "code": null}'])
def test_answer_of_a_load_balancer_is_an_error_too(body):
    """A date in Retry-After is ignored."""
    error = error_of_answer(503, {"Retry-After": "3"}, body)
    assert isinstance(error, Unavailable)
    assert (error.code, error.detail, error.retry_after) == ("http_error", "the service answered 503", 3.0)
    assert error_of_answer(503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, body).retry_after is None
