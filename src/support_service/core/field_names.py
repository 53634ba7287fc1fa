"""Names of the fields of a request: camelCase, or snake_case as some clients of the previous service send them."""

from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from support_service.core.errors import FieldError


def in_camel_case(model: type[BaseModel], sent: object) -> tuple[object, list[FieldError]]:
    """Return a JSON object with the snake_case names of the model's fields replaced by their aliases, and the errors.

    An error is a field that is given under both names with different values. Models inside the model are treated in the
    same way; names that belong to no field, such as those inside of `metadata`, stay as they are.
    """
    if not isinstance(sent, dict):
        return sent, []
    aliases, nested = _names(model)
    found = dict(sent)
    errors: list[FieldError] = []
    for name in aliases.keys() & sent.keys():
        alias, value = aliases[name], found.pop(name)
        if found.setdefault(alias, value) != value:
            errors.append(FieldError(alias, f"is also given as {name}, with another value; send one of them"))
    for alias in nested.keys() & found.keys():
        found[alias], inside = in_camel_case(nested[alias], found[alias])
        errors += [FieldError(f"{alias}.{error.field}", error.message) for error in inside]
    return found, errors


@cache
def _names(model: type[BaseModel]) -> tuple[Mapping[str, str], Mapping[str, type[BaseModel]]]:
    """Return the alias of each field whose alias is another name, and the models of fields by alias."""
    fields = {field.alias or name: (name, field) for name, field in model.model_fields.items()}
    aliases = {name: alias for alias, (name, _) in fields.items() if name != alias}
    nested = {alias: kind for alias, (_, field) in fields.items() for kind in _models(field.annotation)}
    return aliases, nested


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that a field's type names."""
    return [
        kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type) and issubclass(kind, BaseModel)
    ]
