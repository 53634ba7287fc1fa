"""Unknown paths and methods get a problem."""

from tests.support.calls import expect_problem
from tests.support.each import each_row


@each_row("path", ["/support", "/support/case", "/support/cases/", "/metrics/", "/support/cases/a/b"])
async def test_unknown_path_is_not_found(shared_client, path):
    await expect_problem(shared_client.get(path), 404, "route_not_found")


UNSUPPORTED_METHOD_IS_REFUSED = [
    ("DELETE", "/support/cases", {"GET", "HEAD", "POST"}),
    ("PUT", "/support/cases/a", {"GET", "HEAD", "PATCH", "DELETE"}),
    ("GET", "/support/cases/a/messages", {"POST"}),
    ("POST", "/metrics", {"GET", "HEAD"}),
    ("LOCK", "/support/cases", {"GET", "HEAD", "POST"}),
]


@each_row("method, path, allowed", UNSUPPORTED_METHOD_IS_REFUSED)
async def test_unsupported_method_is_refused(shared_client, method, path, allowed):
    """The response is 405 and lists the allowed methods."""
    response = await shared_client.request(method, path)
    await expect_problem(response, 405, "method_not_allowed")
    assert {name.strip() for name in response.headers["Allow"].split(",")} == allowed
