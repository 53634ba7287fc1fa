"""Unknown paths, methods and ids get a problem. An id may be any text: an unknown one is 404 on every route."""

from urllib.parse import quote

import pytest
from yarl import URL

from tests.support.calls import expect_problem, form
from tests.support.each import each_row

IDS = {
    "plain": "nobody",
    "a uuid": "00000000-0000-0000-0000-000000000000",
    "NUL": "\0",
    "NUL inside": "a\0b",
    "a slash": "a/b",
    "a path traversal": "../../etc/passwd",
    "a space": " ",
    "unicode": "đơn-😀",
    "a right-to-left mark": "\u202e",
    "SQL": "' OR '1'='1",
    "a percent": "100%",
    "a query": "a?b=c#d",
    "a line break": "a\r\nb",
    "long": "x" * 200,
    "a kilobyte": "x" * 1000,
}
CALLS = [
    ("GET", "", {}),
    ("GET", "?includeTimeline=true", {}),
    ("PATCH", "", {"json": {"subject": "B"}}),
    ("POST", "/messages", {"json": {"authorType": "agent", "message": "Hello"}}),
    ("POST", "/status?status=closed", {}),
    ("POST", "/close", {}),
    ("POST", "/close", {"json": {"message": "Bye"}}),
    ("POST", "/timeline/refresh", {}),
    ("GET", "/attachments", {}),
    ("POST", "/attachments", {}),
    ("GET", "/attachments/a/b", {}),
    ("DELETE", "/attachments/a", {}),
]


@pytest.mark.parametrize("name", IDS)
async def test_unknown_case_id_is_not_found_on_every_route(client, metric_changes, name):
    """This holds for any form of the id, and nothing is counted."""
    for method, path, arguments in CALLS:
        more = {"data": form(b"hello")} if (method, path) == ("POST", "/attachments") else arguments
        address = URL(f"/support/cases/{quote(IDS[name], safe='')}{path}", encoded=True)
        code = "attachment_not_found" if path.startswith("/attachments/") else "case_not_found"
        problem = await expect_problem(client.request(method, address, **more), 404, code)
        assert len(problem["detail"]) < 400
    for counter in ("conversation_added", "ticket_status_changed", "attachment_stored", "ticket_created"):
        assert metric_changes.total(f"support_{counter}_total") == 0


@each_row("raw", ["%FF", "%C3%28", "%", "%zz", "%ED%A0%80", "%7Bcase_id%7D", "x" * 5000])
async def test_odd_case_id_in_a_url_is_not_found(client, raw):
    """Invalid percent-encoding names no case either, nor do braces, which have a meaning in the templates of routes.

    tests/e2e/server/test_server.py covers an id of ten kilobytes.
    """
    response = await client.get(URL(f"/support/cases/{raw}", encoded=True))
    await expect_problem(response, 404, "case_not_found")


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
