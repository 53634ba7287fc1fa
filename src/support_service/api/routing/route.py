"""What a route is: who may make a request, what it sends, its responses, and its problem codes."""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel

from support_service.core.domain.principals import AccessScope, Role
from support_service.core.problem_codes import PROBLEM_CODES_BY_NAME

JSON = "application/json"
BYTES = "application/octet-stream"  # for the content of a file, which is sent with the type of the file

# Groups of problem codes that several routes share, see core/problem_codes.py. Every operation:
COMMON_PROBLEMS = (
    "expectation_failed",
    "headers_too_large",
    "host_not_allowed",
    "internal_error",
    "malformed_request",
    "origin_not_allowed",
    "uri_too_long",
    "version_not_supported",
)
# Operations other than health and metrics.
ADMISSION_PROBLEMS = ("answers_unread", "overloaded", "rate_limited", "too_many_parameters")
# Operations that require authentication.
AUTHENTICATION_PROBLEMS = (
    *("keys_unavailable", "permission_missing", "provider_unavailable", "session_ended"),
    *("token_expired", "token_invalid", "token_missing"),
)
# Operations that accept an Idempotency-Key.
IDEMPOTENCY_PROBLEMS = (
    "idempotency_answer_lost",
    "idempotency_key_in_use",
    "idempotency_key_invalid",
    "idempotency_key_reused",
)

# Operations that name the group.
DATABASE_PROBLEMS = (
    "commit_not_replicated",
    "database_busy",
    "database_connections_exhausted",
    "database_file_changed",
    "database_full",
    "database_pool_exhausted",
    "database_read_only",
    "database_slow",
    "database_unavailable",
    "database_without_primary",
    "writes_waiting",
)
BODY_PROBLEMS = ("body_too_large", "body_too_slow", "malformed_body", "unsupported_type")
CASE_PROBLEMS = (*DATABASE_PROBLEMS, "case_not_found")  # operations on one case
# Operations that take a JSON body.
JSON_BODY_PROBLEMS = (*BODY_PROBLEMS, "malformed_json", "invalid_request")


class Tag(NamedTuple):
    """An OpenAPI tag, which groups operations."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Permission:
    """A permission, and its scope for each role that has it. Other roles are denied.

    Scopes: `all`: every case. `own`: the cases that `Principal.may_see` allows. `masked`: every case, with customers'
    data masked.
    """

    name: str
    scopes: Mapping[Role, AccessScope]


PUBLIC: Final = "public"  # the access of a route that requires no authentication


@dataclass(frozen=True, slots=True)
class RouteResponse:
    """An additional success or redirect response; without a model it has no JSON body."""

    status: int
    meaning: str
    model: type[BaseModel] | None = None
    media_types: tuple[str, ...] = (JSON,)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Route:
    """An operation, from which its `Endpoint` and its entry in the OpenAPI document are made.

    The decorators of `decorators.py` make it of a handler. A body that is not required may be sent as query parameters
    instead, which take precedence.
    """

    operation: str  # the OpenAPI operation id: the name of the handler
    tag: Tag
    method: str
    path: str
    handler: Callable[..., Awaitable[Any]]
    parameters: Mapping[str, Any]  # the types of the handler's parameters by name
    access: Permission | Literal["public"]
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    body_required: bool = True
    body_media_types: tuple[str, ...] = (JSON,)
    request_headers: tuple[str, ...] = ()  # besides Idempotency-Key
    response_model: type[BaseModel] | None = None
    is_list: bool = False  # the response is a list of `response_model`
    returns_models: bool = True  # the handler returns models, not JSON or a response
    stores_response: bool = True  # of a write: for an Idempotency-Key; False if a repeat may simply run again
    masks_itself: bool = False  # the handler masks what it returns as JSON or streams; models are masked for it
    status: int = 200
    response_media_types: tuple[str, ...] = (JSON,)  # of the response; other types than JSON have no model
    headers: tuple[str, ...] = ()  # of the response, besides Idempotency-Replayed
    other_responses: tuple[RouteResponse, ...] = ()
    problems: tuple[str, ...] = ()  # codes that are specific to the operation, see core/problem_codes.py
    links: tuple[tuple[str, str], ...] = ()  # (path parameter of other routes, JSON pointer into the response)

    @property
    def takes_idempotency_key(self) -> bool:
        """Return True if the operation changes something that a repeat must not change again."""
        return self.method != "GET" and self.stores_response

    @property
    def has_pages(self) -> bool:
        """Return True if the response is a page of a list, with the cursor of the next one."""
        return self.response_model is not None and "next_cursor" in self.response_model.model_fields

    @property
    def is_upload(self) -> bool:
        """Return True if the body is a form with a file, which the handler reads as a stream."""
        return "multipart/form-data" in self.body_media_types

    @property
    def path_parameters(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.path)

    @property
    def problem_statuses(self) -> set[int]:
        """The statuses of the problems that are specific to the operation, or to writes."""
        codes = (*self.problems, *(IDEMPOTENCY_PROBLEMS if self.takes_idempotency_key else ()))
        return {status for code in codes if (status := PROBLEM_CODES_BY_NAME[code].status)}

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return inspect.cleandoc(self.handler.__doc__ or "").partition("\n")[0].removesuffix(".")

    @property
    def description(self) -> str:
        """The rest of the handler's docstring: paragraphs, each on one line."""
        _, _, rest = inspect.cleandoc(self.handler.__doc__ or "").partition("\n")
        return "\n\n".join(" ".join(paragraph.split()) for paragraph in rest.strip().split("\n\n"))


Routes: TypeAlias = tuple[Route, ...]
"""All routes, in the order of the document."""
