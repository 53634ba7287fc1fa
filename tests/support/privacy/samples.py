"""Models with a text in every field that tells where it was, whatever the type of the field is."""

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a type names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def trace(owner: str, field: str) -> str:
    """Return the text that a field has: no word that is shown as it is, because it has spaces and a long number."""
    return f"what {owner}.{field} had 7700000"


def filled(model: type[BaseModel]) -> Any:
    """Return a model, not validated, whose fields have their traces; a field with a model has that model, filled."""
    return model.model_construct(
        **{name: _filled(model.__name__, name, field.annotation) for name, field in model.model_fields.items()}
    )


def _filled(owner: str, name: str, annotation: Any) -> Any:
    part = next(models_in(annotation), None)
    value = filled(part) if part else trace(owner, name)
    types = [annotation, *get_args(annotation)]
    origins = {get_origin(each) or each for each in types}
    if list not in origins:
        return {"note": value} if dict in origins and not part else value
    listed = next(each for each in types if get_origin(each) is list)
    has_objects = any((get_origin(each) or each) is dict for each in _unwrapped(get_args(listed)[0]))
    return [{"note": value} if has_objects and not part else value]


def _unwrapped(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        yield from _unwrapped(argument)
