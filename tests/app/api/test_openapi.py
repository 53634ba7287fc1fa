"""The OpenAPI document describes exactly what the app serves."""

import copy
import json
import re

import pydantic
import pytest
import pytest_asyncio

from support_service.api.openapi import descriptions, page
from support_service.api.openapi import document as openapi
from support_service.api.openapi.document import find_gaps
from support_service.api.routes import ROUTES
from support_service.api.routing.route import (
    ADMISSION_PROBLEMS,
    AUTHENTICATION_PROBLEMS,
    COMMON_PROBLEMS,
    IDEMPOTENCY_PROBLEMS,
    PUBLIC,
)
from support_service.core.domain.upstream_services import SERVICE_BY_KIND
from support_service.core.problem_codes import PROBLEM_CODES_BY_NAME
from support_service.platform.telemetry.http import UNMEASURED_PATHS
from tests.support.calls import api_routes, open_case, upload
from tests.support.each import each_row

PROBLEM = "application/problem+json"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def document(shared_client):
    async with shared_client.get("/openapi.json") as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        return await response.json()


def operations(document):
    """Return each operation by its method and path."""
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def resolve(document, thing):
    """Return the target of a reference, or `thing` itself if it is not a reference. Fail if there is no target."""
    if "$ref" not in thing:
        return thing
    for part in thing["$ref"].removeprefix("#/").split("/"):
        document = document[part]
    return document


def references(thing):
    """Return every reference in a document."""
    if isinstance(thing, dict):
        own = [thing] if "$ref" in thing else []
        return own + [each for value in thing.values() for each in references(value)]
    return [each for value in thing for each in references(value)] if isinstance(thing, list) else []


@pytest.mark.long
def test_document_is_valid_openapi():
    """This holds for OpenAPI 3.1. `make lint` has other validators read the document."""
    import openapi_spec_validator

    document = openapi.openapi_document(ROUTES, secured=True)
    assert document["openapi"].startswith("3.1.")
    openapi_spec_validator.validate(document)


async def test_only_security_of_operations_depends_on_authentication(document):
    secured = copy.deepcopy(openapi.openapi_document(ROUTES, secured=True))
    del secured["components"]["securitySchemes"]
    for operation in operations(secured).values():
        operation["security"] = []
    assert document == json.loads(json.dumps(secured))


async def test_every_route_is_described(client, document):
    """Nothing else is described: pages of the console are no API. Every GET, and no other method, also answers HEAD.

    Every operation, parameter, body and response has a description, a schema and an example.
    """
    served = api_routes(client.app)
    heads = {path for method, path in served if method == "HEAD"}
    assert {each for each in served if each[0] != "HEAD"} == set(operations(document))
    assert heads == {path for method, path in operations(document) if method == "GET"}
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(names)) == len(names)
    assert find_gaps(document) == []


LINT_REPORTS_A_GAP = [
    ("has no summary", lambda call: call.pop("summary")),
    ("has no description", lambda call: call.update(description="")),
    ("has no tags", lambda call: call.pop("tags")),
    ("the parameter case_id has no description", lambda call: call["parameters"][0].pop("description")),
    ("the body as application/json has no schema", lambda call: request_media(call).pop("schema")),
    ("the body as application/json has no example", lambda call: request_media(call).pop("example")),
    ("the answer 200 has no description", lambda call: call["responses"]["200"].pop("description")),
    ("the answer 200 has no body", lambda call: call["responses"]["200"].pop("content")),
    ("the answer 200 as application/json has no schema", lambda call: response_media(call).pop("schema")),
    ("the answer 200 has no example", lambda call: response_media(call).pop("example")),
]


@each_row("gap, remove", LINT_REPORTS_A_GAP)
def test_lint_reports_a_gap(gap, remove):
    """`make lint` runs this check."""
    document = copy.deepcopy(openapi.openapi_document(ROUTES))
    remove(document["paths"]["/support/cases/{case_id}/messages"]["post"])
    assert find_gaps(document) == [f"POST /support/cases/{{case_id}}/messages: {gap}"]


def request_media(call):
    return call["requestBody"]["content"]["application/json"]


def response_media(call):
    return call["responses"]["200"]["content"]["application/json"]


async def test_every_reference_resolves(document):
    """Each path has its parameters, and each link sets all parameters of its operation."""
    for reference in references(document):
        resolve(document, reference)
    called = {operation["operationId"]: (path, operation) for (_, path), operation in operations(document).items()}
    for (_, path), operation in operations(document).items():
        in_path = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                assert set(link["parameters"]) == set(re.findall(r"{(\w+)}", called[link["operationId"]][0]))
    assert "get_case" in document["paths"]["/support/cases"]["post"]["responses"]["201"]["links"]


async def test_every_operation_lists_exactly_its_problem_codes(document):
    """Each code is listed under its status in the table of problem codes."""
    for route in ROUTES:
        answers = operations(document)[route.method, route.path]["responses"]
        listed = set()
        for status, answer in ((status, resolve(document, each)) for status, each in answers.items()):
            if PROBLEM in answer.get("content", {}):
                schema = answer["content"][PROBLEM]["schema"]["properties"]
                assert schema["status"] == {"const": int(status)}
                assert {PROBLEM_CODES_BY_NAME[code].status for code in schema["code"]["enum"]} == {int(status)}
                listed |= set(schema["code"]["enum"])
        admission = () if route.path in UNMEASURED_PATHS else ADMISSION_PROBLEMS
        authentication = () if route.access == PUBLIC else AUTHENTICATION_PROBLEMS
        idempotency = IDEMPOTENCY_PROBLEMS if route.takes_idempotency_key else ()
        assert listed == {*COMMON_PROBLEMS, *admission, *authentication, *idempotency, *route.problems}, route.operation


def test_examples_are_valid():
    """The service accepts the example of each body, and the example of each response has all fields."""
    for route in ROUTES:
        for model in filter(
            None, (route.body, route.response_model, *(other.model for other in route.other_responses))
        ):
            example = openapi.schemas.first_example(model)
            if "multipart/form-data" in route.body_media_types and model is route.body:
                continue
            read = model.model_validate(example)
            if model is not route.body and not isinstance(read, pydantic.RootModel):
                assert set(read.model_dump(by_alias=True)) == set(example), model


async def test_responses_have_exactly_the_described_fields(client, document):
    """All fields are required, except fields that are absent without a value."""
    case = await open_case(client, initialMessage={"authorType": "agent", "message": "Hi"})
    attachment = await upload(client, case)
    schemas = document["components"]["schemas"]
    for name, answer in (("Case", case), ("Message", case["messages"][0]), ("Attachment", attachment)):
        described = set(schemas[name]["properties"]) - {"viewers", "names", "mergedInto", "customerName", "stagedUntil"}
        assert described == set(schemas[name]["required"]) == set(answer), name


async def test_list_filters_are_described(document):
    """Each filter is optional."""
    parameters = [each for each in operations(document)["GET", "/support/cases"]["parameters"] if each["in"] == "query"]
    names = {parameter["name"] for parameter in parameters}
    filters = {"status", "customerId", "assignedAgentId", "team", "priority", "channel", "q", "tag", "updatedAfter"}
    filters |= {"dueBefore", "dueWithin", "snoozed", "mentionedAgentId"}
    assert names == filters | {f"{kind}Id" for kind in SERVICE_BY_KIND} | {"sort", "limit", "cursor"}
    assert not any(parameter["required"] for parameter in parameters)


def test_document_requires_a_token_when_authentication_is_on():
    """Every operation says whether it needs one: public ones do not, and none does without authentication."""
    opened, closed = openapi.openapi_document(ROUTES), openapi.openapi_document(ROUTES, secured=True)
    assert [each for each in operations(opened).values() if each["security"] != []] == []
    assert "securitySchemes" not in opened["components"]
    public = {each["operationId"] for each in operations(closed).values() if each["security"] == []}
    needs_token = {each["operationId"] for each in operations(closed).values() if each["security"] == [{"bearer": []}]}
    assert needs_token == {route.operation for route in ROUTES} - public
    assert public == {route.operation for route in ROUTES if route.access == PUBLIC}
    assert "Authorization: Bearer" not in page.render_page(ROUTES, "http://a", secured=False)
    assert page.render_page(ROUTES, "http://a", secured=True).count("Authorization: Bearer") == len(ROUTES) - len(
        public
    )


def test_document_says_where_the_service_is_and_who_runs_it():
    """The public URL if there is one, or else the URL that the document comes from."""
    assert openapi.openapi_document(ROUTES)["servers"] == [{"url": "/"}]
    assert openapi.openapi_document(ROUTES, public_url="https://support.test")["servers"] == [
        {"url": "https://support.test"}
    ]
    assert openapi.openapi_document(ROUTES)["info"]["contact"]["name"]


def test_generators_of_clients_can_read_the_document():
    """They compile patterns as ECMA-262 does with the flag `u`, which knows few escapes.

    They read `items` of lists and no `prefixItems`, and stop at a range of media types, such as `*/*`.
    """
    document = openapi.openapi_document(ROUTES)
    patterns = {schema["pattern"] for schema in schemas_of(document) if "pattern" in schema}
    assert len(patterns) > 5
    unknown = {escaped for each in patterns for escaped in re.findall(r"\\(.)", each)} - {*"^$\\.*+?()[]{}|/-dDsSwWu"}
    assert unknown == set()
    lists = [schema for schema in schemas_of(document) if schema.get("type") == "array"]
    assert [schema for schema in lists if "items" not in schema or "prefixItems" in schema] == []
    answers = [answer for each in operations(document).values() for answer in each["responses"].values()]
    media = {name for answer in answers for name in resolve(document, answer).get("content", {})}
    assert "application/octet-stream" in media
    assert [name for name in media if "*" in name] == []


def schemas_of(thing):
    """Return every object in a document."""
    if isinstance(thing, dict):
        return [thing, *(each for value in thing.values() for each in schemas_of(value))]
    return [each for value in thing for each in schemas_of(value)] if isinstance(thing, list) else []


def test_every_header_is_described():
    """No header has a description without being used."""
    named = {name for route in ROUTES for name in route.headers} | {
        "Idempotency-Replayed",
        *descriptions.COMMON_RESPONSE_HEADERS,
        *descriptions.OPTIONAL_RESPONSE_HEADERS,
    }
    named |= {name for route in ROUTES for other in route.other_responses for name in other.headers}
    named |= {name for names in descriptions.HEADERS_BY_STATUS.values() for name in names}
    assert named == set(descriptions.RESPONSE_HEADERS)
    sent = {"Idempotency-Key", *descriptions.COMMON_RESPONSE_HEADERS}
    assert {name for route in ROUTES for name in route.request_headers} | sent == set(descriptions.REQUEST_HEADERS)
