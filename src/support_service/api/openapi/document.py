"""OpenAPI 3.1 document, generated from the routes, the models and the table of problem codes; and what it lacks."""

from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from typing import Any

import pydantic_core
from pydantic import BaseModel

from support_service import __version__
from support_service.api.openapi import descriptions, schemas
from support_service.api.openapi.descriptions import PATH_PARAMETERS, TEXT_SCHEMA, ParameterDescription
from support_service.api.routing.route import (
    ADMISSION_PROBLEMS,
    AUTHENTICATION_PROBLEMS,
    BYTES,
    COMMON_PROBLEMS,
    IDEMPOTENCY_PROBLEMS,
    JSON,
    PUBLIC,
    Route,
    Routes,
)
from support_service.core.problem_codes import PROBLEM_CODES_BY_NAME
from support_service.guard.problems import Problem
from support_service.platform.telemetry.http import UNMEASURED_PATHS

Json = dict[str, Any]
STATUSES_WITHOUT_BODY = {"204", "304", "307"}

API_DESCRIPTION = """\
Support cases, one merged timeline, and attachments.

JSON is in camelCase, times are RFC 3339 in UTC and end in `Z`, and texts must not contain NUL. Unknown fields are
ignored. In requests, names of fields and query parameters are accepted in snake_case too (`customer_id`), and `status`,
`priority` and `authorType` in upper case and between spaces. Every GET also supports HEAD. Ids are opaque: an unknown
id is 404, whatever its format.

An error is `application/problem+json`. `code` is stable and for programs. `detail` says what to do next. `errors` lists
each invalid field. `requestId` identifies the request in the log. Each operation lists its codes. An unknown path is
404 `route_not_found`, and an unsupported method is 405 `method_not_allowed`.
"""
CONTACT = {"name": "The operators of this service"}
SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of `support-service token create`, or a JWT, depending on `SUPPORT_AUTH`.",
    }
}


@cache
def openapi_document(routes: Routes, *, secured: bool = False, public_url: str = "") -> Json:
    """Return the OpenAPI document of a service at a URL; without one, at the URL that the document comes from.

    With `secured`, operations that are not public require a bearer token.
    """
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation_object(route, routes, secured=secured)
    refusals = {
        _problem_response_name(each): _problem_response_object(*each)
        for route in routes
        for each in _problem_codes_by_status(route).items()
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
            "schemas": schemas.component_schemas(routes),
            "responses": dict(sorted(refusals.items())),
            "headers": {
                name: {"required": header.always} | _header_object(header)
                for name, header in descriptions.RESPONSE_HEADERS.items()
            },
            **({"securitySchemes": SECURITY_SCHEMES} if secured else {}),
        },
    }


@cache
def openapi_json(routes: Routes, *, secured: bool = False, public_url: str = "") -> bytes:
    """Return the document as indented JSON, as it is served."""
    return pydantic_core.to_json(openapi_document(routes, secured=secured, public_url=public_url), indent=2)


def _operation_object(route: Route, routes: Routes, *, secured: bool) -> Json:
    sent = (*route.headers, *(("Idempotency-Replayed",) if route.takes_idempotency_key else ()))
    operation: Json = {
        "operationId": route.operation,
        "tags": [route.tag.name],
        "summary": route.summary,
        "description": route.description,
        "security": [{"bearer": []}] if secured and route.access != PUBLIC else [],
        "parameters": [*_parameter_objects(route)],
        "responses": {
            str(route.status): _response_object(
                route, HTTPStatus(route.status).phrase, route.response_model, route.response_media_types, sent
            )
            | ({"links": _link_objects(route, routes)} if route.links else {})
        }
        | {
            str(other.status): _response_object(route, other.meaning, other.model, other.media_types, other.headers)
            for other in route.other_responses
        }
        | {
            str(status): {"$ref": f"#/components/responses/{_problem_response_name((status, codes))}"}
            for status, codes in _problem_codes_by_status(route).items()
        },
    }
    if route.body:
        content = _content_object(route.body, route.body_media_types)
        operation["requestBody"] = {"required": route.body_required, "content": content}
    return operation


def _parameter_objects(route: Route) -> list[Json]:
    found = [
        {"name": part, "in": "path", "required": True, **_header_object(PATH_PARAMETERS[part])}
        for part in route.path_parameters
    ]
    if route.query:
        properties, required = schemas.query_parameters(route.query)
        for name, schema in properties.items():
            documented = {"description": schema.pop("description", ""), "schema": schema}
            sent = {"required": name in required, "allowEmptyValue": True}  # an empty parameter counts as not given
            found.append({"name": name, "in": "query"} | sent | documented)
    names = {*route.request_headers, *descriptions.COMMON_RESPONSE_HEADERS}
    names |= {"Idempotency-Key"} if route.takes_idempotency_key else set()
    return found + [
        {"name": name, "in": "header", "required": False, **_header_object(descriptions.REQUEST_HEADERS[name])}
        for name in sorted(names)
    ]


def _response_object(
    route: Route, meaning: str, model: type[BaseModel] | None, media: tuple[str, ...], sent: tuple[str, ...]
) -> Json:
    described: Json = {"description": meaning, "headers": _header_objects(*sent)}
    if model:
        described["content"] = _content_object(model, media, many=route.is_list)
    elif media != (JSON,):
        described["content"] = {
            each: {"schema": descriptions.BYTES_SCHEMA if each == BYTES else TEXT_SCHEMA} for each in media
        }
    return described


def _content_object(model: type[BaseModel], media: tuple[str, ...], *, many: bool = False) -> Json:
    schema, example = schemas.schema_reference(model), schemas.first_example(model)
    if many:
        schema, example = {"type": "array", "items": schema}, [example]
    return dict.fromkeys(media, {"schema": schema} | ({} if example is None else {"example": example}))


def _link_objects(route: Route, routes: Routes) -> Json:
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


def _problem_codes_by_status(route: Route) -> dict[int, tuple[str, ...]]:
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


def _problem_response_object(status: int, codes: tuple[str, ...]) -> Json:
    phrase = HTTPStatus(status).phrase
    problem = {"title": phrase, "status": status, "requestId": "8c1f4b6de2a05397"}
    return {
        "description": f"{phrase}. "
        + "; ".join(f"`{code}`: {PROBLEM_CODES_BY_NAME[code].meaning}" for code in codes)
        + ".",
        "headers": _header_objects(*descriptions.HEADERS_BY_STATUS.get(status, ())),
        "content": {
            "application/problem+json": {
                "schema": schemas.schema_reference(Problem)
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


def _header_objects(*names: str) -> Json:
    return {
        name: {"$ref": f"#/components/headers/{name}"}
        for name in sorted((*names, *descriptions.COMMON_RESPONSE_HEADERS, *descriptions.OPTIONAL_RESPONSE_HEADERS))
    }


def _header_object(header: ParameterDescription) -> Json:
    return {"description": header.description, "schema": header.schema}


def find_gaps(document: Json) -> list[str]:
    """Return one line per missing summary, description, schema or example; empty if the document is complete."""
    return [
        f"{method.upper()} {path}: {gap}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for gap in (*_operation_gaps(operation), *_body_gaps(operation), *_response_gaps(document, operation))
    ]


def _operation_gaps(operation: Json) -> Iterator[str]:
    for part in ("summary", "description", "tags"):
        if not operation.get(part):
            yield f"has no {part}"
    for parameter in operation["parameters"]:
        if not parameter.get("description"):
            yield f"the parameter {parameter['name']} has no description"


def _body_gaps(operation: Json) -> Iterator[str]:
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        if not content.get("schema"):
            yield f"the body as {media} has no schema"
        if "example" not in content:
            yield f"the body as {media} has no example"


def _response_gaps(document: Json, operation: Json) -> Iterator[str]:
    for status, given in operation["responses"].items():
        name = given.get("$ref", "").rpartition("/")[2]
        answer = document["components"]["responses"][name] if name else given
        if not answer.get("description"):
            yield f"the answer {status} has no description"
        if status not in STATUSES_WITHOUT_BODY and not answer.get("content"):
            yield f"the answer {status} has no body"
        for media, content in answer.get("content", {}).items():
            if not content.get("schema"):
                yield f"the answer {status} as {media} has no schema"
            if media == "application/json" and "example" not in content:
                yield f"the answer {status} has no example"
