"""JSON that enters the service: limits on its depth and on the number of its parts, and the names of its fields.

JSON that is accepted must not be too large for a later reader.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from support_service.core.errors import FieldError

MAX_DEPTH = 32  # nested objects and lists, in requests to the service and in the responses that it receives
MAX_CONTAINERS = 10_000  # objects and lists; parsing 1 MiB of nothing but brackets takes 0.5 s
# A JSON string. An unterminated one runs to the end of the input (\Z): otherwise the search would restart at each of
# its escaped quotes.
JSON_STRING = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)', re.DOTALL)


def has_too_many_containers(text: bytes) -> bool:
    """Return whether unparsed JSON has more than MAX_CONTAINERS objects and lists, not counting brackets in strings."""
    return _count_brackets(text) > MAX_CONTAINERS and _count_brackets(JSON_STRING.sub(b"", text)) > MAX_CONTAINERS


def exceeds_depth(text: bytes, document: object, limit: int = MAX_DEPTH) -> bool:
    """Return whether `document`, parsed from `text`, nests deeper than `limit`."""
    # Cheap check first: only a text with that many brackets can be that deep, and almost none has them.
    return _count_brackets(text) > limit and _is_deeper(document, limit)


def _count_brackets(text: bytes) -> int:
    return text.count(b"{") + text.count(b"[")


def _is_deeper(value: object, limit: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if children is None:
        return False
    return limit == 0 or any(_is_deeper(child, limit - 1) for child in children)


def with_camel_case_names(model: type[BaseModel], document: object) -> tuple[object, list[FieldError]]:
    """Return a JSON object with the snake_case names of the model's fields replaced by their aliases, and the errors.

    An error is a field that is given under both names with different values. Models inside the model are treated in the
    same way. Names that belong to no field, such as names inside of `metadata`, stay as they are.
    """
    if not isinstance(document, dict):
        return document, []
    aliases, nested = _aliases_and_nested_models(model)
    found = dict(document)
    errors: list[FieldError] = []
    for name in aliases.keys() & document.keys():
        alias, value = aliases[name], found.pop(name)
        if found.setdefault(alias, value) != value:
            errors.append(FieldError(alias, f"is also given as {name}, with another value; send one of them"))
    for alias in nested.keys() & found.keys():
        found[alias], inside = with_camel_case_names(nested[alias], found[alias])
        errors += [FieldError(f"{alias}.{error.field}", error.message) for error in inside]
    return found, errors


@cache
def _aliases_and_nested_models(model: type[BaseModel]) -> tuple[Mapping[str, str], Mapping[str, type[BaseModel]]]:
    """Return the alias of each field whose alias is another name, and the models of fields by alias."""
    fields = {field.alias or name: (name, field) for name, field in model.model_fields.items()}
    aliases = {name: alias for alias, (name, _) in fields.items() if name != alias}
    nested = {alias: kind for alias, (_, field) in fields.items() for kind in _models_in_annotation(field.annotation)}
    return aliases, nested


def _models_in_annotation(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that a field's type names."""
    return [
        kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type) and issubclass(kind, BaseModel)
    ]
