"""Answers of the service as exceptions: one kind for each status, with the code of the problem.

The kinds are in `core/errors.py`, the codes in `core/problem_codes.py`.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import pydantic_core
from pydantic import ValidationError

from support_service.cases.model.case import Message
from support_service.core.errors import KIND_BY_STATUS, FieldError, ServiceFailed, SupportError, VersionConflict

CODE_WITHOUT_PROBLEM = "http_error"  # code of an answer that is not a problem, such as a load balancer's


class NoAnswer(SupportError):
    """The service gave no whole answer; `may_pass` is False if another attempt would fail too."""

    def __init__(self, detail: str, *, may_pass: bool = True) -> None:
        super().__init__("no_answer", detail)
        self.may_pass = may_pass


class UnexpectedAnswer(SupportError):
    """The answer is not one of this API, or the file that it is about has other bytes."""

    def __init__(self, code: str, detail: str, status: int | None = None) -> None:
        super().__init__(code, detail)
        self.status = status


def error_of_answer(status: int, headers: Mapping[str, str], body: bytes) -> SupportError:
    """Return the exception for an answer whose status is not a success."""
    problem = _parsed_problem(body)
    kind = KIND_BY_STATUS.get(status, ServiceFailed if status >= HTTPStatus.INTERNAL_SERVER_ERROR else SupportError)
    error = kind(
        str(problem.get("code") or CODE_WITHOUT_PROBLEM), str(problem.get("detail") or f"the service answered {status}")
    )
    error.status = status
    error.problem = problem
    error.request_id = problem.get("requestId") or headers.get("X-Request-Id")
    error.errors = tuple(_field_errors(problem))
    if isinstance(error, VersionConflict):
        version = problem.get("currentVersion")
        error.current_version = version if isinstance(version, int) else None
        error.messages = _messages(problem)
    if error.errors:
        error.args = (f"{error.detail} ({'; '.join(f'{each.field}: {each.message}' for each in error.errors)})",)
    after = headers.get("Retry-After", "")
    error.retry_after = float(after) if after.isascii() and after.isdigit() else None  # a date is ignored
    return error


def _parsed_problem(body: bytes) -> dict[str, Any]:
    try:
        found = pydantic_core.from_json(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _messages(problem: Mapping[str, Any]) -> list[Message]:
    try:
        return [Message.model_validate(message) for message in problem.get("messages") or ()]
    except (TypeError, ValidationError):
        return []


def _field_errors(problem: Mapping[str, Any]) -> list[FieldError]:
    listed = problem.get("errors")
    return [
        FieldError(str(each.get("field", "")), str(each.get("message", "")))
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(each, dict)
    ]
