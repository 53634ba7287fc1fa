"""Schemas in words, and example curl commands, for the HTML page of the API."""

import json
import shlex
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]


def describe_schema(schema: Json) -> str:
    """Describe a schema on one line, e.g. `text of 1 to 255 characters, or null`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if kinds := schema.get("anyOf"):
        return ", or ".join(dict.fromkeys(describe_schema(kind) for kind in kinds))
    if "const" in schema or "enum" in schema:
        return " | ".join(schema.get("enum") or [json.dumps(schema["const"])])
    kind = str(schema.get("type", "bytes" if "contentMediaType" in schema else "anything"))
    return DESCRIBERS[kind](schema) if kind in DESCRIBERS else kind


def _list(schema: Json) -> str:
    most = f"at most {schema['maxItems']} " if "maxItems" in schema else ""
    return f"list of {most}{describe_schema(schema.get('items', {}))}"


def _count(schema: Json) -> str:
    return "whole number" + _range(schema, "minimum", "maximum")


def _text(schema: Json) -> str:
    if "format" in schema:
        return str(schema["format"])
    size = _range(schema, "minLength", "maxLength")
    return f"text{' of' + size + ' characters' if size else ''}"


def _range(schema: Json, low: str, high: str) -> str:
    if high in schema:
        return f" {schema[low]} to {schema[high]}" if low in schema else f" at most {schema[high]}"
    return f" {schema[low]} or more" if low in schema else ""


DESCRIBERS: dict[str, Callable[[Json], str]] = {"string": _text, "array": _list, "integer": _count}


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
