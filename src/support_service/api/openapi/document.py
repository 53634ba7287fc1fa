"""OpenAPI 3.1 document, generated from the routes, the models and the table of problem codes."""

from functools import cache
from http import HTTPStatus
from typing import Any

import pydantic_core
from pydantic import BaseModel

from support_service import __version__
from support_service.api.openapi import headers, schemas
from support_service.api.openapi.headers import Header
from support_service.api.routing.problem_groups import (
    ADMISSION_PROBLEMS,
    AUTHENTICATION_PROBLEMS,
    COMMON_PROBLEMS,
    IDEMPOTENCY_PROBLEMS,
)
from support_service.api.routing.route import BYTES, JSON, PUBLIC, Route
from support_service.core.ids import NAME_PATTERN
from support_service.core.problem_codes import PROBLEM_CODES_BY_NAME
from support_service.guard.problems import Problem
from support_service.platform.telemetry.http import UNMEASURED_PATHS

Json = dict[str, Any]

API_DESCRIPTION = """\
Support cases, one merged timeline, and attachments.

JSON is in camelCase, times are RFC 3339 in UTC and end in `Z`, and texts must not contain NUL. Unknown fields are
ignored. In requests, names of fields and query parameters are accepted in snake_case too (`customer_id`), and `status`,
`priority` and `authorType` in upper case and between spaces. Every GET also supports HEAD. Ids are opaque: an unknown
id is 404, whatever its format.

An error is `application/problem+json`: `code` is stable and for programs, `detail` says what to do next, `errors` lists
each invalid field, and `requestId` identifies the request in the log. Each operation lists its codes; an unknown path
is 404 `route_not_found`, and an unsupported method is 405 `method_not_allowed`.
"""
PATH_PARAMETERS = {
    "agent_id": Header("The agent's id, as in `assignedAgentId`.", headers.TEXT | {"examples": ["agent-7"]}),
    "attachment_id": Header(
        "The attachment's id.", headers.TEXT | {"examples": ["7c9e6679-7425-40de-944b-e07fc1f90ae7"]}
    ),
    "case_id": Header("The case's id.", headers.TEXT | {"examples": ["0b6f7c0e-6a3c-4a0e-9d0f-6f0c2f6a9b11"]}),
    "customer_id": Header("The customer's id, as in `customerId`.", headers.TEXT | {"examples": ["CUS-42"]}),
    "delivery_id": Header("The webhook delivery's id.", headers.TEXT | {"examples": ["1042"]}),
    "letter_id": Header("The dead letter's id.", headers.TEXT | {"examples": ["1778587200000-0"]}),
    "link_id": Header("The link's id.", headers.TEXT | {"examples": ["5d0c7a52-2a0b-4f36-9c1e-0f7b0f7f6c21"]}),
    "macro_name": Header("The macro's name.", headers.TEXT | {"pattern": NAME_PATTERN, "examples": ["late-parcel"]}),
    "policy_name": Header("The policy's name.", headers.TEXT | {"pattern": NAME_PATTERN, "examples": ["10-urgent"]}),
    "override_name": Header("The name of a service, or `ttl`.", headers.TEXT | {"examples": ["payment"]}),
    "filename": Header("The file's name from `uri`; any name is accepted.", headers.TEXT | {"examples": ["label.png"]}),
    "view_id": Header("The saved view's id.", headers.TEXT | {"examples": ["2f1b6a0e-93d4-4c57-8a8e-51f0c7d2b6e4"]}),
}
CONTACT = {"name": "The operators of this service"}
SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of `support-service token create`, or a JWT, depending on `SUPPORT_AUTH`.",
    }
}


@cache
def document(routes: tuple[Route, ...], *, secured: bool = False, public_url: str = "") -> Json:
    """Return the OpenAPI document of a service at a URL; without one, at the URL that the document comes from.

    With `secured`, operations that are not public require a bearer token.
    """
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, routes, secured=secured)
    refusals = {
        _problem_response_name(each): _problem_response(*each)
        for route in routes
        for each in _problem_codes(route).items()
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "support-service",
            "version": __version__,
            "description": API_DESCRIPTION,
            "contact": CONTACT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": public_url or "/"}],
        "tags": [tag._asdict() for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": schemas.components(routes),
            "responses": dict(sorted(refusals.items())),
            "headers": {
                name: {"required": header.always} | _describe(header)
                for name, header in headers.RESPONSE_HEADERS.items()
            },
            **({"securitySchemes": SECURITY_SCHEMES} if secured else {}),
        },
    }


@cache
def body(routes: tuple[Route, ...], *, secured: bool = False, public_url: str = "") -> bytes:
    """Return the document as indented JSON, as it is served."""
    return pydantic_core.to_json(document(routes, secured=secured, public_url=public_url), indent=2)


def _operation(route: Route, routes: tuple[Route, ...], *, secured: bool) -> Json:
    sent = (*route.headers, "Idempotency-Replayed") if route.takes_idempotency_key else route.headers
    operation: Json = {
        "operationId": route.operation,
        "tags": [route.tag.name],
        "summary": route.summary,
        "description": route.description,
        "security": [{"bearer": []}] if secured and route.access != PUBLIC else [],
        "parameters": [*_parameters(route)],
        "responses": {
            str(route.status): _response(
                route, HTTPStatus(route.status).phrase, route.response_model, route.response_media_types, sent
            )
            | ({"links": _links(route, routes)} if route.links else {})
        }
        | {
            str(other.status): _response(route, other.meaning, other.model, other.media_types, other.headers)
            for other in route.other_responses
        }
        | {
            str(status): {"$ref": f"#/components/responses/{_problem_response_name((status, codes))}"}
            for status, codes in _problem_codes(route).items()
        },
    }
    if route.body:
        content = _content(route.body, route.body_media_types)
        operation["requestBody"] = {"required": route.body_required, "content": content}
    return operation


def _parameters(route: Route) -> list[Json]:
    found = [
        {"name": part, "in": "path", "required": True, **_describe(PATH_PARAMETERS[part])}
        for part in route.path_parameters
    ]
    if route.query:
        properties, required = schemas.query_parameters(route.query)
        for name, schema in properties.items():
            documented = {"description": schema.pop("description", ""), "schema": schema}
            sent = {"required": name in required, "allowEmptyValue": True}  # an empty parameter counts as not given
            found.append({"name": name, "in": "query"} | sent | documented)
    names = {*route.request_headers, *headers.COMMON_RESPONSE_HEADERS} | (
        {"Idempotency-Key"} if route.takes_idempotency_key else set()
    )
    return found + [
        {"name": name, "in": "header", "required": False, **_describe(headers.REQUEST_HEADERS[name])}
        for name in sorted(names)
    ]


def _response(
    route: Route, meaning: str, model: type[BaseModel] | None, media: tuple[str, ...], sent: tuple[str, ...]
) -> Json:
    described: Json = {"description": meaning, "headers": _headers(*sent)}
    if model:
        described["content"] = _content(model, media, many=route.is_list)
    elif media != (JSON,):
        described["content"] = {each: {"schema": headers.BYTES if each == BYTES else headers.TEXT} for each in media}
    return described


def _content(model: type[BaseModel], media: tuple[str, ...], *, many: bool = False) -> Json:
    schema, example = schemas.reference(model), schemas.example(model)
    if many:
        schema, example = {"type": "array", "items": schema}, [example]
    return dict.fromkeys(media, {"schema": schema} | ({} if example is None else {"example": example}))


def _links(route: Route, routes: tuple[Route, ...]) -> Json:
    """Return links from the response to every operation that takes an id from it."""
    named = {part: f"$request.path.{part}" for part in route.path_parameters}
    named |= {part: f"$response.body#{pointer}" for part, pointer in route.links}
    return {
        other.operation: {
            "operationId": other.operation,
            "parameters": {part: named[part] for part in other.path_parameters},
        }
        for other in routes
        if named.keys() >= {*other.path_parameters} and {part for part, _ in route.links} & {*other.path_parameters}
    }


def _problem_codes(route: Route) -> dict[int, tuple[str, ...]]:
    """Return the problem codes of an operation, grouped by status."""
    found: dict[int, tuple[str, ...]] = {}
    authentication_codes = () if route.access == PUBLIC else AUTHENTICATION_PROBLEMS
    admission_codes = () if route.path in UNMEASURED_PATHS else ADMISSION_PROBLEMS
    idempotency_codes = IDEMPOTENCY_PROBLEMS if route.takes_idempotency_key else ()
    codes = {*COMMON_PROBLEMS, *admission_codes, *authentication_codes, *idempotency_codes, *route.problems}
    for name in sorted(codes):
        status = PROBLEM_CODES_BY_NAME[name].status
        assert status is not None, name  # noqa: S101 - routes name only codes with a fixed status
        found[status] = (*found.get(status, ()), name)
    return dict(sorted(found.items()))


def _problem_response_name(refusal: tuple[int, tuple[str, ...]]) -> str:
    status, codes = refusal
    return ".".join((str(status), *codes))


def _problem_response(status: int, codes: tuple[str, ...]) -> Json:
    """Return a response object for a status and its problem codes, with an example of each code."""
    phrase = HTTPStatus(status).phrase
    problem = {"title": phrase, "status": status, "requestId": "8c1f4b6de2a05397"}
    return {
        "description": f"{phrase}. "
        + "; ".join(f"`{code}`: {PROBLEM_CODES_BY_NAME[code].meaning}" for code in codes)
        + ".",
        "headers": _headers(*headers.HEADERS_BY_STATUS.get(status, ())),
        "content": {
            "application/problem+json": {
                "schema": schemas.reference(Problem)
                | {"properties": {"status": {"const": status}, "code": {"enum": [*codes]}}},
                "examples": {
                    code: {
                        "summary": PROBLEM_CODES_BY_NAME[code].meaning,
                        "value": {
                            "type": "about:blank",
                            **problem,
                            "code": code,
                            "detail": PROBLEM_CODES_BY_NAME[code].meaning,
                        },
                    }
                    for code in codes
                },
            }
        },
    }


def _headers(*names: str) -> Json:
    return {
        name: {"$ref": f"#/components/headers/{name}"}
        for name in sorted((*names, *headers.COMMON_RESPONSE_HEADERS, *headers.OPTIONAL_RESPONSE_HEADERS))
    }


def _describe(header: Header) -> Json:
    return {"description": header.description, "schema": header.schema}
