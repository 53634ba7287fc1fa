"""HTML page of the API, rendered from the OpenAPI document: one style sheet, no script."""

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import htpy as h
from markupsafe import Markup

from support_service.api.openapi.document import openapi_document
from support_service.api.routing.route import Routes
from support_service.core.problem_codes import PROBLEM_CODES

Json = dict[str, Any]


@cache
def render_page(routes: Routes, base: str, *, secured: bool) -> str:
    """Return the page as HTML. `base` is the base URL of its curl commands; with `secured`, they send a token."""
    described = openapi_document(routes, secured=secured)
    tags = described["tags"]
    return str(
        h.html(lang="en")[
            h.head[
                h.meta(charset="utf-8"),
                h.meta(name="viewport", content="width=device-width, initial-scale=1"),
                h.title[f"support-service {described['info']['version']}"],
                h.style[Markup(_style_sheet())],  # noqa: S704 - our own file; escaping > would break its selectors
            ],
            h.body[
                h.h1["support-service ", h.small[described["info"]["version"]]],
                _render_paragraphs(described["info"]["description"]),
                h.p[
                    "For programs: ",
                    h.a(href="/openapi.json")["/openapi.json"],
                    ", and for events in both directions ",
                    h.a(href="/asyncapi.json")["/asyncapi.json"],
                    ".",
                ],
                h.nav[
                    (h.a(href=f"#room-{tag['name']}")[tag["name"].capitalize()] for tag in tags),
                    h.a(href="#models")["Models"],
                    h.a(href="#codes")["Problem codes"],
                ],
                (
                    h.section(id=f"room-{tag['name']}")[
                        h.h2[tag["name"]],
                        h.p[_format_code((tag["description"].partition(": ")[2] or tag["description"]).capitalize())],
                        (
                            _render_operation(base, described, *each)
                            for each in _operations_with_tag(described, tag["name"])
                        ),
                    ]
                    for tag in tags
                ),
                h.section(id="models")[
                    h.h2["Models"],
                    (_render_model(described, *each) for each in described["components"]["schemas"].items()),
                ],
                h.section(id="codes")[h.h2["Problem codes"], _render_problem_codes()],
            ],
        ]
    )


@cache
def content_security_policy() -> str:
    """Return the page's Content-Security-Policy, which allows its inline style and nothing else."""
    digest = base64.b64encode(hashlib.sha256(_style_sheet().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@cache
def _style_sheet() -> str:
    return files(__package__).joinpath("page.css").read_text()


def _operations_with_tag(described: Json, tag: str) -> list[tuple[str, str, Json]]:
    return [
        (method, path, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
        if tag in operation["tags"]
    ]


def _render_operation(base: str, described: Json, method: str, path: str, operation: Json) -> h.Element:
    secured = bool(operation["security"])
    answers = [(status, _resolve_reference(described, answer)) for status, answer in operation["responses"].items()]
    good = [each for each in answers if "application/problem+json" not in each[1].get("content", {})]
    return h.details(".call", id=operation["operationId"])[
        h.summary[
            h.span(f".method.{method}")[method.upper()],
            h.code[path],
            h.span(".what")[_format_code(operation["summary"])],
        ],
        h.div[
            _render_paragraphs(operation["description"]),
            h.pre[h.code[curl_command(base, method.upper(), path, operation, secured=secured)]],
            h.h3["Parameters"],
            h.table[(_render_parameter(parameter) for parameter in operation["parameters"])],
            _render_body(described, operation["requestBody"]) if "requestBody" in operation else None,
            h.h3["Answers"],
            (_render_response(status, answer) for status, answer in good),
            h.h3["Problems"],
            h.table[(_render_problem(status, answer) for status, answer in answers if (status, answer) not in good)],
        ],
    ]


def _render_parameter(parameter: Json) -> h.Element:
    needed = "" if parameter["required"] else ", optional"
    default = parameter["schema"].get("default")
    told = f"{describe_schema(parameter['schema'])}{needed}" + (
        "" if default is None else f", {json.dumps(default)} if left out"
    )
    return h.tr[
        h.td[h.code[parameter["name"]], h.small[f"in the {parameter['in']}"]],
        h.td[_format_code(parameter["description"]), h.small[_link_models(told)]],
    ]


def _render_body(described: Json, body: Json) -> h.Fragment:
    media, content = next(iter(body["content"].items()))
    schema = _resolve_reference(described, content["schema"])
    return h.fragment[
        h.h3["Body"],
        h.p[h.code[media], "" if body["required"] else ", may be left out", ". ", _format_code(schema["description"])],
        (_render_fields(described, kind) for kind in schema.get("anyOf", [schema])),
        _render_example(content.get("example")),
    ]


def _render_fields(described: Json, kind: Json) -> h.Fragment:
    schema = _resolve_reference(described, kind)
    required = schema.get("required", ())
    return h.fragment[
        h.h4[_link_models(describe_schema(kind))] if "$ref" in kind else None,
        h.table[
            (
                h.tr[
                    h.td[h.code[name], h.small["required" if name in required else "optional"]],
                    h.td[_format_code(_field_description(field)), h.small[_link_models(describe_schema(field))]],
                ]
                for name, field in schema.get("properties", {}).items()
            )
        ],
    ]


def _render_model(described: Json, name: str, schema: Json) -> h.Element:
    return h.details(".call", id=name)[
        h.summary[h.code[name], h.span(".what")[_format_code(schema.get("description", "").partition("\n")[0])]],
        h.div[
            (_render_fields(described, kind) for kind in schema.get("anyOf", [schema])),
            (_render_example(example) for example in schema.get("examples", ())),
        ],
    ]


def _render_response(status: str, answer: Json) -> h.Fragment:
    kinds = " or ".join(answer.get("content", {}))
    content: Json = next(iter(answer.get("content", {}).values()), {})
    sent = ", ".join(name for name in answer["headers"])
    return h.fragment[
        h.h4[status, " ", answer["description"]],
        h.p[
            (h.code[kinds], " ", _link_models(describe_schema(content["schema"])), "; ") if kinds else None,
            "headers ",
            h.code[sent],
        ],
        _render_example(content.get("example")),
    ]


def _render_problem(status: str, answer: Json) -> h.Fragment:
    examples = answer["content"]["application/problem+json"]["examples"]
    return h.fragment[
        (
            h.tr[h.td[status, " ", h.a(href=f"#{code}")[h.code[code]]], h.td[_format_code(each["summary"])]]
            for code, each in examples.items()
        )
    ]


def _render_problem_codes() -> h.Element:
    return h.table[
        (
            h.tr(id=code.name)[
                h.td[str(code.status or "4xx"), " ", h.code[code.name]], h.td[_format_code(code.meaning)]
            ]
            for code in PROBLEM_CODES
        )
    ]


def _render_example(example: object) -> h.Element | None:
    if example is None:
        return None
    text = json.dumps(example, indent=2, ensure_ascii=False)
    return h.details(".example")[h.summary["Example"], h.pre[h.code[text]]]


def _field_description(field: Json) -> str:
    """Return a field's description: its own, or else the first one among its `anyOf` schemas."""
    kinds = [field, *field.get("anyOf", ())]
    return next((kind["description"] for kind in kinds if "description" in kind), "")


def _resolve_reference(described: Json, schema: Json) -> Json:
    """Resolve a schema's `$ref` in the document, if it has one."""
    for part in schema.get("$ref", "#").split("/")[1:]:
        described = described[part]
    return described if "$ref" in schema else schema


def _render_paragraphs(text: str) -> h.Fragment:
    return h.fragment[(h.p[_format_code(" ".join(part.split()))] for part in text.strip().split("\n\n"))]


def _link_models(text: str) -> h.Fragment:
    """Return the text with model names linked. Only model names start with a capital letter."""
    parts = re.split(r"\b([A-Z]\w+)", text)
    return h.fragment[(h.a(href=f"#{part}")[part] if number % 2 else part for number, part in enumerate(parts))]


def _format_code(text: str) -> h.Fragment:
    """Return the text with `backquoted` parts as code elements."""
    parts = re.split(r"`([^`]+)`", text)
    return h.fragment[(h.code[part] if number % 2 else part for number, part in enumerate(parts))]


def describe_schema(schema: Json) -> str:
    """Describe a schema on one line, e.g. `text of 1 to 255 characters, or null`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if kinds := schema.get("anyOf"):
        return ", or ".join(dict.fromkeys(describe_schema(kind) for kind in kinds))
    if "const" in schema or "enum" in schema:
        return " | ".join(schema.get("enum") or [json.dumps(schema["const"])])
    kind = str(schema.get("type", "bytes" if "contentMediaType" in schema else "anything"))
    return DESCRIBERS_BY_TYPE[kind](schema) if kind in DESCRIBERS_BY_TYPE else kind


def _describe_list(schema: Json) -> str:
    most = f"at most {schema['maxItems']} " if "maxItems" in schema else ""
    return f"list of {most}{describe_schema(schema.get('items', {}))}"


def _describe_number(schema: Json) -> str:
    return "whole number" + _describe_range(schema, "minimum", "maximum")


def _describe_text(schema: Json) -> str:
    if "format" in schema:
        return str(schema["format"])
    size = _describe_range(schema, "minLength", "maxLength")
    return f"text{' of' + size + ' characters' if size else ''}"


def _describe_range(schema: Json, low: str, high: str) -> str:
    if high in schema:
        return f" {schema[low]} to {schema[high]}" if low in schema else f" at most {schema[high]}"
    return f" {schema[low]} or more" if low in schema else ""


DESCRIBERS_BY_TYPE: dict[str, Callable[[Json], str]] = {
    "string": _describe_text,
    "array": _describe_list,
    "integer": _describe_number,
}


def curl_command(base: str, method: str, path: str, operation: Json, *, secured: bool) -> str:
    """Return a curl command for the operation, with the example values of the document."""
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["schema"]["examples"][0])
    content = operation.get("requestBody", {}).get("content", {})
    told = method == "GET" or (method == "POST" and content)  # curl selects the method itself
    parts = [f"curl {'' if told else f'-X {method} '}{base}{path}"]
    if secured:
        parts.append('-H "Authorization: Bearer $TOKEN"')
    for media, body in list(content.items())[:1]:
        if media == "multipart/form-data":
            parts.append("-F file=@label.png")
        else:
            sent = json.dumps(body["example"], ensure_ascii=False)
            parts += [f"-H {shlex.quote(f'Content-Type: {media}')}", f"-d {shlex.quote(sent)}"]
    return " \\\n  ".join(parts)
