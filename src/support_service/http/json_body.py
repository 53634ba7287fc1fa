"""Requests in, answers out: JSON read into models and models written as JSON, with every refusal spelled out."""

import asyncio
import re
from collections.abc import Callable, Sequence
from math import isinf
from typing import Any, TypeVar

import pydantic_core
from aiohttp import web
from pydantic import BaseModel, ValidationError

from support_service.core.errors import Invalid, Malformed, TooSlow, UnsupportedType, field_errors
from support_service.core.json_limits import MAX_DEPTH, MAX_PARTS, has_too_many_parts, nests_too_deep
from support_service.http.readiness import READINESS

BODY_WITHIN = 30.0  # seconds for a JSON body to arrive; aiohttp waits for ever
MAX_BODY = 1024 * 1024  # bytes of a JSON body

# Only such a body can hold a number beyond 1.8e308: with an exponent of three digits, or with 210 before one of two.
# Each run of digits is tried once, and letters, of which most bodies are, are not tried at all.
HUGE = re.compile(rb"[0-9](?:[eE]\+?[0-9]{3}|(?<![0-9]{2})[0-9]{199})")

Model = TypeVar("Model", bound=BaseModel)


async def read(request: web.Request, model: type[Model]) -> Model:
    """The JSON body as a model; raises Malformed, UnsupportedType or Invalid, and aiohttp's 413 for a large body."""
    return _validated(model, _json(media_type(request), await read_body(request)))


async def read_optional(request: web.Request, model: type[Model]) -> Model:
    """The JSON body and the query as one model, either of which may be missing; the query has the last word."""
    body = await read_body(request)
    document = _json(media_type(request), body) if body.strip() else {}
    if request.query_string and isinstance(document, dict):
        query = _query(request)
        if document:
            _validated(model, query | document)  # what the query replaces must be in order too
        document = document | query
    return _validated(model, document)


def read_query(request: web.Request, model: type[Model]) -> Model:
    """The query as a model; an empty value counts as not given."""
    return _validated(model, _query(request))


async def read_json(request: web.Request) -> Any:
    """The JSON body as it is; raises Malformed, UnsupportedType, and aiohttp's 413 for a large body."""
    return _json(media_type(request), await read_body(request))


def reply(
    answer: BaseModel | Sequence[BaseModel], status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """A model, or a list of them, as JSON in camelCase."""
    body = pydantic_core.to_json(answer, by_alias=True, inf_nan_mode="null")
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def media_type(request: web.Request) -> str:
    """What the body says it is, without parameters; aiohttp's own way takes seconds for a header made for it."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def expect_plain(request: web.Request) -> None:
    """Raise UnsupportedType for a compressed body: no body is unpacked here."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedType("unsupported_type", "Send the body as it is, without Content-Encoding.")


async def read_body(request: web.Request) -> bytes:
    """The body, however often it is asked for; raises UnsupportedType, TooSlow, and aiohttp's 413 for a large one."""
    expect_plain(request)
    if request.content.is_eof():  # it came with its head
        return await request.read()
    try:
        with request.app[READINESS].for_client():
            async with asyncio.timeout(BODY_WITHIN):
                return await request.read()
    except TimeoutError:
        raise TooSlow("body_too_slow", f"The body did not arrive within {BODY_WITHIN:g} s.") from None


def _query(request: web.Request) -> dict[str, str]:
    query = {name: value for name, value in request.query.items() if value}
    if "%00" in request.rel_url.raw_query_string:
        _refuse_nul(query)
    return query


def _json(content_type: str, body: bytes) -> Any:
    # What a browser sends across origins without asking first is never JSON.
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise UnsupportedType("unsupported_type", "Send JSON, with the header Content-Type: application/json.")
    if has_too_many_parts(body):
        raise Malformed("malformed_json", f"The body has more than {MAX_PARTS:,} objects and lists.")
    try:
        document = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as failure:
        raise Malformed("malformed_json", f"The body is not JSON: {failure}.") from None
    if HUGE.search(body) and _has(document, _is_beyond):
        raise Malformed("malformed_json", "The body holds a number that is too large for any reader.")
    if nests_too_deep(body, document):
        raise Malformed("malformed_json", f"The body nests deeper than {MAX_DEPTH} levels.")
    if b"\\u0000" in body:  # only such a body can hold one
        _refuse_nul(document)
    return document


def _validated(model: type[Model], document: object) -> Model:
    try:
        return model.model_validate(document)
    except ValidationError as failure:
        fields = field_errors(failure)
        raise Invalid("invalid_request", "Some fields break a rule; `errors` names each.", fields) from None


def _refuse_nul(document: object) -> None:
    if _has(document, _is_nul):
        raise Invalid("invalid_request", "The request holds a NUL character, which no text here may have.")


def _is_nul(value: object) -> bool:
    return isinstance(value, str) and "\0" in value


def _is_beyond(value: object) -> bool:
    return isinstance(value, float) and isinf(value)


def _has(value: object, what: Callable[[object], bool]) -> bool:
    """Whether a document holds such a value, be it a key."""
    if isinstance(value, dict):
        return any(what(key) or _has(child, what) for key, child in value.items())
    if isinstance(value, list):
        return any(_has(child, what) for child in value)
    return what(value)
