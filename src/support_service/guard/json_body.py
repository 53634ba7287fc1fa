"""JSON bodies: requests parsed into models, models written as responses, and every violation reported in detail."""

import asyncio
import re
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from math import isinf
from typing import Any, TypeVar, get_origin

import pydantic_core
from aiohttp import web
from pydantic import BaseModel, ValidationError
from yarl import URL

from support_service.core.errors import field_errors, problem
from support_service.core.json_input import (
    MAX_CONTAINERS,
    MAX_DEPTH,
    exceeds_depth,
    has_too_many_containers,
    with_camel_case_names,
)
from support_service.guard.exchange import EXCHANGE
from support_service.guard.overload import LARGE_BODY_BYTES

INVALID_REQUEST = "Some fields break a rule; `errors` names each."
MAX_JSON_BODY_BYTES = 1024 * 1024  # bytes of a JSON body
MAX_CACHED_QUERIES = 64  # parsed queries that a route keeps; one has at most 4 KiB

# Only a body that matches can hold a number beyond 1.8e308: it needs an exponent of three digits, or 210 digits before
# an exponent of two digits. The pattern tries each run of digits once and never starts at a letter, which keeps it fast
# on most bodies.
HUGE_NUMBER = re.compile(rb"[0-9](?:[eE]\+?[0-9]{3}|(?<![0-9]{2})[0-9]{199})")

ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_model(request: web.Request, model: type[ModelT]) -> ModelT:
    """Parse the JSON body into a model.

    Raises ValidationFailed and the errors of `read_json`.
    """
    return _validate(model, await read_json(request))


async def read_body_and_query(request: web.Request, model: type[ModelT]) -> ModelT:
    """Parse the JSON body and the query into one model. Both are optional; the query takes precedence.

    Raises the errors of `read_model`.
    """
    body = await read_body(request)
    document = await read_json(request) if body.strip() else {}
    if request.query_string and isinstance(document, dict):
        document, query = (
            _with_camel_case_names(model, document),
            _with_camel_case_names(model, _parse_query(request.rel_url.raw_query_string)),
        )
        if document:
            _validate(model, query | document)  # members that the query overrides must be valid too
        document = document | query
    return _validate(model, document)


def query_reader(model: type[ModelT]) -> Callable[[web.Request], ModelT]:
    """Return a function that parses the query of a request into a model; an empty value counts as missing.

    A field that is a list or a tuple gets the values of all parameters of its name, any other the last one.

    It keeps the models of some queries, because most requests have no query or a usual one: models must not change.
    It raises ValidationFailed.
    """
    repeatable = frozenset(
        given
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) in (list, tuple)
        for given in (name, field.alias or name)
    )

    @lru_cache(MAX_CACHED_QUERIES)
    def parse(query: str) -> ModelT:
        return _validate(model, _parse_query(query, repeatable), whole="query")

    return lambda request: parse(request.rel_url.raw_query_string)


async def read_json(request: web.Request) -> Any:
    """Parse the JSON body without a model.

    Raises ValidationFailed, `body_too_slow`, RateLimited if the caller owes requests for earlier bodies, and
    aiohttp's 413 for a large body.
    """
    body = await read_body(request)
    if len(body) > LARGE_BODY_BYTES:  # it counts like one request for each of them
        request[EXCHANGE].charge((len(body) - 1) // LARGE_BODY_BYTES)
    # A request that a browser sends to another origin without a preflight never has a JSON type.
    content_type = media_type(request)
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise problem("unsupported_type", "Send JSON, with the header Content-Type: application/json.")
    return parse_json(body)


def json_response(
    content: BaseModel | Sequence[BaseModel] | bytes, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Return a response with a model, or a list of models, as JSON in camelCase; or with JSON as it is given."""
    body = content if isinstance(content, bytes) else pydantic_core.to_json(content, by_alias=True, inf_nan_mode="null")
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def media_type(request: web.Request) -> str:
    """Return the media type of the body in lower case, without parameters.

    aiohttp's own parser takes seconds for a header crafted to slow it down.
    """
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def check_not_compressed(request: web.Request) -> None:
    """Raise ValidationFailed for a compressed body: the service decompresses no bodies."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise problem(
            "unsupported_type", "Compressed bodies are not supported; send the body without Content-Encoding."
        )


async def read_body(request: web.Request) -> bytes:
    """Read the body; repeated calls return the same bytes.

    Raises ValidationFailed, `body_too_slow` and Unavailable, and aiohttp's 413 for a large body.
    """
    exchange = request[EXCHANGE]
    if exchange.body is not None:
        return exchange.body
    check_not_compressed(request)
    if request.content.is_eof():  # it arrived together with the head
        return await request.read()
    if (length := request.content_length or 0) > request.client_max_size:  # aiohttp would wait for the bytes
        raise web.HTTPRequestEntityTooLarge(request.client_max_size, length)
    timeout = exchange.guard.timings.body_timeout
    try:
        with exchange.guard.readiness.count_waiting_for_client():
            async with asyncio.timeout(timeout):
                exchange.body = body = await _receive_body(request)
    except TimeoutError:
        raise problem("body_too_slow", f"The body did not arrive within {timeout:g} s.") from None
    return body


async def _receive_body(request: web.Request) -> bytes:
    body = bytearray()
    while chunk := await request.content.readany():
        body += chunk
        if len(body) > request.client_max_size:
            raise web.HTTPRequestEntityTooLarge(request.client_max_size, len(body))
        if len(body) > LARGE_BODY_BYTES:
            request[EXCHANGE].count_large_body()
    return bytes(body)


def _parse_query(raw: str, repeatable: Collection[str] = ()) -> dict[str, Any]:
    given = URL.build(query_string=raw, encoded=True).query
    query: dict[str, Any] = {name: value for name, value in given.items() if value}
    for name in query.keys() & repeatable:
        query[name] = [value for value in given.getall(name) if value]
    if "%00" in raw:
        _check_no_nul(query)
    return query


def parse_json(body: bytes) -> Any:
    """Parse JSON within the limits that hold for all JSON that is stored.

    Raises ValidationFailed, and ValidationFailed (NUL characters).
    """
    if has_too_many_containers(body):
        raise problem("malformed_json", f"The JSON body has more than {MAX_CONTAINERS:,} objects and lists, the limit.")
    try:
        document = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as failure:
        raise problem("malformed_json", f"The body is not JSON: {failure}.") from None
    if HUGE_NUMBER.search(body) and _contains_value(document, _is_infinite):
        raise problem("malformed_json", "The JSON body has a number above 1.8e308, the largest that is supported.")
    if exceeds_depth(body, document):
        raise problem("malformed_json", f"The JSON body is nested deeper than {MAX_DEPTH} levels, the limit.")
    if b"\\u0000" in body:  # only a body with this escape can hold a NUL
        _check_no_nul(document)
    return document


def _with_camel_case_names(model: type[BaseModel], document: object) -> Any:
    """Return the document with the names of fields in camelCase. Raises ValidationFailed for contradicting names."""
    renamed, errors = with_camel_case_names(model, document)
    if errors:
        raise problem("invalid_request", INVALID_REQUEST, errors)
    return renamed


def _validate(model: type[ModelT], document: object, whole: str = "body") -> ModelT:
    try:
        return model.model_validate(_with_camel_case_names(model, document))
    except ValidationError as failure:
        fields = field_errors(failure, whole=whole)
        raise problem("invalid_request", INVALID_REQUEST, fields) from None


def _check_no_nul(document: object) -> None:
    if _contains_value(document, _is_nul):
        raise problem("invalid_request", "The request has a NUL character in a text, which is not allowed.")


def _is_nul(value: object) -> bool:
    return isinstance(value, str) and "\0" in value


def _is_infinite(value: object) -> bool:
    return isinstance(value, float) and isinf(value)


def _contains_value(value: object, matches: Callable[[object], bool]) -> bool:
    if isinstance(value, dict):
        return any(matches(key) or _contains_value(child, matches) for key, child in value.items())
    if isinstance(value, list):
        return any(_contains_value(child, matches) for child in value)
    return matches(value)
