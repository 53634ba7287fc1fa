"""Linter of the OpenAPI document: finds missing descriptions, schemas and examples."""

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
WITHOUT_BODY = {"204", "304", "307"}


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
        if status not in WITHOUT_BODY and not answer.get("content"):
            yield f"the answer {status} has no body"
        for media, content in answer.get("content", {}).items():
            if not content.get("schema"):
                yield f"the answer {status} as {media} has no schema"
            if media == "application/json" and "example" not in content:
                yield f"the answer {status} has no example"
