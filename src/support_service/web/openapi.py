"""The OpenAPI 3.1 document, made from the table of routes and the models, and a page that shows it without scripts."""

import re
from functools import cache
from html import escape
from http import HTTPStatus
from typing import Any

import pydantic_core
from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from support_service import __version__
from support_service.web.errors import Problem
from support_service.web.routes import ROUTES, Route

TEMPLATE = "#/components/schemas/{model}"
FILE_FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "string", "contentMediaType": "application/octet-stream"}},
}


@cache
def document() -> dict[str, Any]:
    """The description of every route, as OpenAPI 3.1 has it."""
    models = {model for route in ROUTES for model in (route.answer, route.body) if model} | {Problem}
    _, definitions = models_json_schema(
        [(model, "validation" if _is_sent(model) else "serialization") for model in sorted(models, key=str)],
        ref_template=TEMPLATE,
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "support-service", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": definitions["$defs"]},
    }


async def openapi(_: web.Request) -> web.Response:
    """Give the OpenAPI document."""
    return web.Response(body=_body(), content_type="application/json")


async def docs(_: web.Request) -> web.Response:
    """Show every call on a page."""
    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return web.Response(text=_page(), content_type="text/html", headers=headers)


@cache
def _body() -> bytes:
    return pydantic_core.to_json(document(), indent=2)


def _is_sent(model: type[BaseModel]) -> bool:
    return any(route.body is model for route in ROUTES)


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in re.findall(r"{(\w+)}", route.path)
            ),
            *_query(route),
        ],
        "responses": {str(route.status): _answer(route)},
    }
    for status in route.refusals:
        operation["responses"][str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": _reference(Problem)}},
        }
    if route.body:
        content = {"application/json": {"schema": _reference(route.body)}}
        operation["requestBody"] = {"required": route.body_required, "content": content}
    elif route.content_type == "multipart/form-data":
        operation["requestBody"] = {"required": True, "content": {route.content_type: {"schema": FILE_FORM}}}
    return operation


def _answer(route: Route) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(route.status).phrase}
    if route.answer:
        schema = _reference(route.answer)
        described["content"] = {
            "application/json": {"schema": {"type": "array", "items": schema} if route.many else schema}
        }
    elif route.status != HTTPStatus.NO_CONTENT:
        described["content"] = {route.content_type: {}}
    return described


def _query(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema(ref_template=TEMPLATE)
    # Where a body may say the same, nothing in the query is required.
    required = schema.get("required", []) if route.body is None else []
    return [
        {"name": name, "in": "query", "required": name in required, "schema": property_}
        for name, property_ in schema["properties"].items()
    ]


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": TEMPLATE.format(model=model.__name__)}


@cache
def _page() -> str:
    rows = "".join(
        f"<tr><td><b>{route.method}</b></td><td><code>{escape(route.path)}</code></td>"
        f"<td>{escape(route.summary)}{_fields(route)}</td></tr>"
        for route in ROUTES
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>support-service {__version__}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; width: 100% }}
td {{ border-top: 1px solid #ddd; padding: .5rem .75rem; vertical-align: top }}
small {{ color: #555; display: block }}
</style></head><body>
<h1>support-service {__version__}</h1>
<p>Every call of the service. Answers are JSON in camelCase, errors are <code>application/problem+json</code>; the
machine-readable description is <a href="/openapi.json">/openapi.json</a>, that of events
<a href="/asyncapi.json">/asyncapi.json</a>.</p>
<table>{rows}</table></body></html>
"""


def _fields(route: Route) -> str:
    parts = []
    for title, model in (("query", route.query), ("body", route.body), ("answer", route.answer)):
        if model:
            fields = ", ".join(
                f"{field.alias or name}{'' if field.is_required() or title == 'answer' else '?'}"
                for name, field in model.model_fields.items()
            )
            parts.append(f"<small>{title}: {escape(fields)}</small>")
    return "".join(parts)
