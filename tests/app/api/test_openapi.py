"""The description of the API is what the app serves."""

import copy
import re

import openapi_spec_validator
import pydantic
import pytest

from support_service.api.openapi import document as openapi
from support_service.api.openapi import headers, page
from support_service.api.openapi.lint import gaps
from support_service.api.problem_groups import (
    ADMISSION_PROBLEMS,
    AUTHENTICATION_PROBLEMS,
    COMMON_PROBLEMS,
    IDEMPOTENCY_PROBLEMS,
)
from support_service.api.route import PUBLIC
from support_service.api.routes import ROUTES
from support_service.core.problem_codes import PROBLEM_CODES_BY_NAME
from support_service.telemetry.http import UNMEASURED_PATHS
from tests.support.calls import open_case, upload

PROBLEM = "application/problem+json"


@pytest.fixture
async def document(client):
    """The document as clients get it."""
    async with client.get("/openapi.json") as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        return await response.json()


def operations(document):
    """Each operation with its method and path."""
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def follow(document, thing):
    """What a reference leads to; fails where it leads nowhere. What is none is itself."""
    if "$ref" not in thing:
        return thing
    for part in thing["$ref"].removeprefix("#/").split("/"):
        document = document[part]
    return document


def references(thing):
    """Every reference in a document."""
    if isinstance(thing, dict):
        own = [thing] if "$ref" in thing else []
        return own + [each for value in thing.values() for each in references(value)]
    return [each for value in thing for each in references(value)] if isinstance(thing, list) else []


async def test_it_is_openapi(document):
    """The document keeps every rule of OpenAPI 3.1, with authentication and without."""
    assert document["openapi"].startswith("3.1.")
    openapi_spec_validator.validate(document)
    openapi_spec_validator.validate(openapi.document(secured=True))


async def test_every_route_is_described(client, document):
    """Whatever the app serves is described, and nothing else is; every GET, and no other, answers HEAD too."""
    served = {(route.method, route.resource.canonical) for route in client.app.router.routes()}
    heads = {path for method, path in served if method == "HEAD"}
    assert {each for each in served if each[0] != "HEAD"} == set(operations(document))
    assert heads == {path for method, path in operations(document) if method == "GET"}
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(names)) == len(names)


async def test_nothing_is_left_out(document):
    """Every call, parameter, body and answer has its description, schema and example."""
    assert gaps(document) == []


@pytest.mark.parametrize(
    ("lack", "break_it"),
    [
        ("has no summary", lambda call: call.pop("summary")),
        ("has no description", lambda call: call.update(description="")),
        ("has no tags", lambda call: call.pop("tags")),
        ("the parameter case_id has no description", lambda call: call["parameters"][0].pop("description")),
        ("the body as application/json has no schema", lambda call: sent(call).pop("schema")),
        ("the body as application/json has no example", lambda call: sent(call).pop("example")),
        ("the answer 200 has no description", lambda call: call["responses"]["200"].pop("description")),
        ("the answer 200 has no body", lambda call: call["responses"]["200"].pop("content")),
        ("the answer 200 as application/json has no schema", lambda call: answered(call).pop("schema")),
        ("the answer 200 has no example", lambda call: answered(call).pop("example")),
    ],
)
def test_a_gap_is_told(lack, break_it):
    """What a route does not say is told by the check that `make lint` runs."""
    document = copy.deepcopy(openapi.document())
    break_it(document["paths"]["/support/cases/{case_id}/messages"]["post"])
    assert gaps(document) == [f"POST /support/cases/{{case_id}}/messages: {lack}"]


def sent(call):
    return call["requestBody"]["content"]["application/json"]


def answered(call):
    return call["responses"]["200"]["content"]["application/json"]


async def test_every_reference_leads_somewhere(document):
    """Each `$ref` names a component, each part of a path is a parameter, each link has all that its call needs."""
    for reference in references(document):
        follow(document, reference)
    called = {operation["operationId"]: (path, operation) for (_, path), operation in operations(document).items()}
    for (_, path), operation in operations(document).items():
        in_path = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                assert set(link["parameters"]) == set(re.findall(r"{(\w+)}", called[link["operationId"]][0]))
    assert "get_case" in document["paths"]["/support/cases"]["post"]["responses"]["201"]["links"]


async def test_every_code_is_listed_where_it_may_come(document):
    """Each problem names the codes that it may have: those of its route, with the status of the table, and no other."""
    for route in ROUTES:
        answers = operations(document)[route.method, route.path]["responses"]
        listed = set()
        for status, answer in ((status, follow(document, each)) for status, each in answers.items()):
            if PROBLEM in answer.get("content", {}):
                schema = answer["content"][PROBLEM]["schema"]["properties"]
                assert schema["status"] == {"const": int(status)}
                assert {PROBLEM_CODES_BY_NAME[code].status for code in schema["code"]["enum"]} == {int(status)}
                listed |= set(schema["code"]["enum"])
        gate = () if route.path in UNMEASURED_PATHS else ADMISSION_PROBLEMS
        door = () if route.access == PUBLIC else AUTHENTICATION_PROBLEMS
        repeats = () if route.method == "GET" else IDEMPOTENCY_PROBLEMS
        assert listed == {*COMMON_PROBLEMS, *gate, *door, *repeats, *route.problems}, route.operation


def test_examples_are_examples():
    """Each body's example is one that the service takes, each answer's one that it could give."""
    for route in ROUTES:
        for model in filter(None, (route.body, route.answer, *(other.model for other in route.other_responses))):
            example = openapi.schemas.example(model)
            if "multipart/form-data" in route.body_media and model is route.body:
                continue
            read = model.model_validate(example)
            if model is not route.body and not isinstance(read, pydantic.RootModel):
                assert set(read.model_dump(by_alias=True)) == set(example), model


async def test_answers_have_the_fields_that_are_described(client, document):
    """What the service answers has exactly the fields of the schema, all of which are required."""
    case = await open_case(client, initialMessage={"authorType": "agent", "message": "Hi"})
    attachment = await upload(client, case)
    schemas = document["components"]["schemas"]
    for name, answer in (("Case", case), ("Message", case["messages"][0]), ("Attachment", attachment)):
        assert set(schemas[name]["properties"]) == set(schemas[name]["required"]) == set(answer), name


async def test_filters_are_described(document):
    """Each filter of the list is a parameter that may be left out."""
    parameters = [each for each in operations(document)["GET", "/support/cases"]["parameters"] if each["in"] == "query"]
    names = {parameter["name"] for parameter in parameters}
    assert names == {"status", "customerId", "assignedAgentId", "team", "priority", "channel", "q", "limit", "cursor"}
    assert not any(parameter["required"] for parameter in parameters)


def test_a_closed_service_says_so():
    """Only where callers must say who they are the document asks for a token, and not for what is public."""
    opened, closed = openapi.document(), openapi.document(secured=True)
    assert "security" not in opened
    assert closed["security"] == [{"bearer": []}]
    public = {each["operationId"] for each in operations(closed).values() if each.get("security") == []}
    assert public == {route.operation for route in ROUTES if route.access == PUBLIC}
    assert "Authorization: Bearer" not in page.page("http://a", secured=False)
    assert page.page("http://a", secured=True).count("Authorization: Bearer") == len(ROUTES) - len(public)


def test_headers_are_described_once():
    """Every header that a route or a status names has its description."""
    named = {name for route in ROUTES for name in route.headers} | {
        "Idempotency-Replayed",
        *headers.COMMON_RESPONSE_HEADERS,
        *headers.OPTIONAL_RESPONSE_HEADERS,
    }
    named |= {name for route in ROUTES for other in route.other_responses for name in other.headers}
    named |= {name for names in headers.HEADERS_BY_STATUS.values() for name in names}
    assert named == set(headers.RESPONSE_HEADERS)
    sent = {"Idempotency-Key", *headers.COMMON_RESPONSE_HEADERS}
    assert {name for route in ROUTES for name in route.request_headers} | sent == set(headers.REQUEST_HEADERS)
