"""Paths and methods that are not served are problems like any other."""

import pytest

from tests.support.calls import expect_problem


@pytest.mark.parametrize(
    "path", ["/", "/support", "/support/case", "/support/cases/", "/metrics/", "/support/cases/a/b"]
)
async def test_an_unknown_route(client, path):
    """A path that nothing serves is a problem like any other."""
    await expect_problem(await client.get(path), 404, "route_not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/support/cases", {"GET", "HEAD", "POST"}),
        ("PUT", "/support/cases/a", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("GET", "/support/cases/a/messages", {"POST"}),
        ("POST", "/metrics", {"GET", "HEAD"}),
        ("LOCK", "/support/cases", {"GET", "HEAD", "POST"}),
    ],
)
async def test_a_wrong_method(client, method, path, allowed):
    """A method that a path does not have is 405, and says which it has."""
    response = await client.request(method, path)
    await expect_problem(response, 405, "method_not_allowed")
    assert {name.strip() for name in response.headers["Allow"].split(",")} == allowed
