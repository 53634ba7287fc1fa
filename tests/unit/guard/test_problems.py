"""Errors as problems, for what no client of the tests sends."""

import json

from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from support_service.guard.problems import response_to_failure


def test_unreadable_body_is_refused():
    """A body that violates HTTP is the client's error, in one line, and the connection is closed."""
    failure = web.RequestPayloadError("chunk\nsize")
    answer = response_to_failure(make_mocked_request("POST", "/support/cases"), failure)
    problem = json.loads(answer.body)
    assert (answer.status, problem["code"]) == (400, "malformed_body")
    assert problem["detail"] == "The body can't be read: chunk size"
    assert answer.keep_alive is False
