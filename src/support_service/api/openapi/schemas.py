"""JSON schemas of the models, for the components and query parameters of the OpenAPI document."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from support_service.api.routing.route import Routes
from support_service.guard.problems import Problem

REFERENCE_TEMPLATE = "#/components/schemas/{model}"
# Models whose schema has another name, which clients rely on: code is generated from it.
SCHEMA_NAMES = {"CaseSummary": "Ticket", "PublishedCase": "Ticket"}
Schema = dict[str, Any]


class NamedSchemas(GenerateJsonSchema):
    """Generates JSON schemas under the names of SCHEMA_NAMES."""

    def normalize_name(self, name: str) -> str:
        return SCHEMA_NAMES.get(name, super().normalize_name(name))


def component_schemas(routes: Routes) -> dict[str, Schema]:
    """Return the schema of every model in the routes, by model name."""
    sent = {route.body for route in routes if route.body} | {Problem}  # a problem omits empty members
    answered = {route.response_model for route in routes} | {
        other.model for route in routes for other in route.other_responses
    }
    models = [(model, "validation") for model in sent] + [(model, "serialization") for model in answered if model]
    _, described = models_json_schema(
        sorted(models, key=str),  # type: ignore[arg-type]
        ref_template=REFERENCE_TEMPLATE,
        schema_generator=NamedSchemas,
    )
    return {name: without_titles(schema) for name, schema in sorted(described["$defs"].items())}


def query_parameters(model: type[BaseModel]) -> tuple[dict[str, Schema], set[str]]:
    """Return the schema of each query parameter by name, and the names of required parameters."""
    schema = model.model_json_schema(ref_template=REFERENCE_TEMPLATE)
    return {name: _query_parameter_schema(without_titles(each)) for name, each in schema["properties"].items()}, {
        *schema.get("required", ())
    }


def schema_reference(model: type[BaseModel]) -> Schema:
    """Return a `$ref` to the model's schema."""
    return {"$ref": REFERENCE_TEMPLATE.format(model=SCHEMA_NAMES.get(model.__name__, model.__name__))}


def first_example(model: type[BaseModel]) -> Any:
    extra = model.model_config.get("json_schema_extra")
    schema: Schema = dict(extra) if isinstance(extra, dict) else model.model_json_schema()
    return next(iter(schema.get("examples", ())), None)


def without_titles(schema: Schema) -> Schema:
    """Return the schema without pydantic's generated titles, which only repeat the names."""
    return {
        key: {name: without_titles(each) for name, each in value.items()}
        if key in ("properties", "$defs")
        else _value_without_titles(value)
        for key, value in schema.items()
        if key != "title"
    }


def _value_without_titles(value: Any) -> Any:
    if isinstance(value, dict):
        return without_titles(value)
    return [_value_without_titles(each) for each in value] if isinstance(value, list) else value


def _query_parameter_schema(schema: Schema) -> Schema:
    """Return a query parameter's schema without the null type and a null default: a query has no null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    told = {key: value for key, value in schema.items() if key != "anyOf" and not (key == "default" and value is None)}
    return (kinds[0] | told if len(kinds) == 1 else told | {"anyOf": kinds}) if kinds else told
