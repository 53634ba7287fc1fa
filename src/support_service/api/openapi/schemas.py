"""The models as JSON schemas: the components of the OpenAPI document, and the parameters of a query."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from support_service.api.route import Route
from support_service.http.problems import Problem

TEMPLATE = "#/components/schemas/{model}"
Schema = dict[str, Any]


def components(routes: tuple[Route, ...]) -> dict[str, Schema]:
    """The schema of every model that the routes name, by its name."""
    sent = {route.body for route in routes if route.body} | {Problem}  # a problem leaves out what it has not
    answered = {route.answer for route in routes} | {other.model for route in routes for other in route.others}
    models = [(model, "validation") for model in sent] + [(model, "serialization") for model in answered if model]
    _, described = models_json_schema(sorted(models, key=str), ref_template=TEMPLATE)  # type: ignore[arg-type]
    return {name: untitled(schema) for name, schema in sorted(described["$defs"].items())}


def query(model: type[BaseModel]) -> tuple[dict[str, Schema], set[str]]:
    """The schema of each parameter of a query, and those that must be given."""
    schema = model.model_json_schema(ref_template=TEMPLATE)
    return {name: _given(untitled(each)) for name, each in schema["properties"].items()}, {*schema.get("required", ())}


def reference(model: type[BaseModel]) -> Schema:
    """Where a model's schema stands."""
    return {"$ref": TEMPLATE.format(model=model.__name__)}


def example(model: type[BaseModel]) -> Any:
    """The example that a model is described with, if any."""
    extra = model.model_config.get("json_schema_extra")
    schema: Schema = dict(extra) if isinstance(extra, dict) else model.model_json_schema()
    return next(iter(schema.get("examples", ())), None)


def untitled(schema: Schema) -> Schema:
    """A schema without the titles that pydantic makes of names, which say nothing that the names don't."""
    return {
        key: {name: untitled(each) for name, each in value.items()} if key in ("properties", "$defs") else _inner(value)
        for key, value in schema.items()
        if key != "title"
    }


def _inner(value: Any) -> Any:
    if isinstance(value, dict):
        return untitled(value)
    return [_inner(each) for each in value] if isinstance(value, list) else value


def _given(schema: Schema) -> Schema:
    """A parameter's schema: what is in a query is never null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    told = {key: value for key, value in schema.items() if key != "anyOf" and not (key == "default" and value is None)}
    return (kinds[0] | told if len(kinds) == 1 else told | {"anyOf": kinds}) if kinds else told
