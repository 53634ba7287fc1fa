"""The description of the API is what the app serves."""

import re

import pytest

from support_service.web.routes import ROUTES
from tests.calls import open_case, upload


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


async def test_every_route_is_described(client, document):
    """Whatever the app serves is described, the description itself aside, and nothing else is."""
    served = {
        (route.method, route.resource.canonical)
        for route in client.app.router.routes()
        if route.method != "HEAD" and route.resource.canonical not in ("/openapi.json", "/asyncapi.json", "/docs")
    }
    assert set(operations(document)) == served
    assert all(operation["summary"] for operation in operations(document).values())
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(names)) == len(names)


async def test_every_reference_leads_somewhere(document):
    """Each `$ref` names a schema of the document, and each part of a path is a parameter."""
    for name in re.findall(r"'\$ref': '#/components/schemas/(\w+)'", str(document)):
        assert name in document["components"]["schemas"]
    for (_, path), operation in operations(document).items():
        in_path = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))


async def test_answers_have_the_fields_that_are_described(client, document):
    """What the service answers has exactly the fields of the schema."""
    case = await open_case(client, initialMessage={"authorType": "agent", "message": "Hi"})
    attachment = await upload(client, case)
    schemas = document["components"]["schemas"]
    for name, answer in (("Case", case), ("Message", case["messages"][0]), ("Attachment", attachment)):
        assert set(schemas[name]["properties"]) == set(answer), name


async def test_filters_are_described(document):
    """Each filter of the list is a parameter that may be left out."""
    parameters = operations(document)["GET", "/support/cases"]["parameters"]
    names = {parameter["name"] for parameter in parameters}
    assert names == {"status", "customerId", "assignedAgentId", "priority", "channel", "q", "limit", "cursor"}
    assert not any(parameter["required"] for parameter in parameters)


async def test_the_page_shows_every_call(client):
    """The page for people has every call, and runs no script."""
    async with client.get("/docs") as response:
        assert response.status == 200
        assert response.content_type == "text/html"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        page = await response.text()
    assert all(f"<code>{route.path}</code>" in page for route in ROUTES)
    assert "<script" not in page
