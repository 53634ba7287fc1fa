"""Malformed and invalid requests: each gets a problem that names the error, and the service keeps working."""

import asyncio
import io
import json
import re

import pytest
import sqlalchemy as sa
from pydantic_core import to_json
from yarl import URL

from support_service.guard.guard import GuardTimings
from support_service.timings import Timings
from tests.support.calls import eventually, expect_json, expect_problem, open_case, read_case
from tests.support.each import each_row
from tests.support.service import service_of

JSON = {"Content-Type": "application/json"}
CASE = {"subject": "A", "channel": "email"}
MESSAGE = {"authorType": "agent", "message": "x"}


def named_fields(problem):
    return {error["field"] for error in problem["errors"]}


async def post(client, body, path="/support/cases", headers=None):
    """Send a raw body as JSON."""
    return await client.post(path, data=body, headers=headers or JSON)


def nested_case(depth):
    """Return the body of a case that nests `depth` levels deep; the case and its context are two of them."""
    inner = depth - 2
    opening = '{"a":' * inner
    return '{"subject":"A","channel":"email","context":[' + opening + "1" + "}" * inner + "]}"


MALFORMED = [
    b"",
    b"{",
    b"nonsense",
    b"{'subject': 'A'}",
    b'{"subject": "A",}',
    b"\xff\xfe",
    b'{"subject": "\xff", "channel": "email"}',
    b'{"subject": "\\ud800", "channel": "email"}',
    b'{"subject": NaN, "channel": "email"}',
    b'{"subject": "A", "channel": "email", "context": {"a": NaN}}',
    b'{"subject": "A", "channel": "email", "context": {"a": Infinity}}',
    b'{"subject": "A", "channel": "email", "context": {"a": [1e400]}}',
    b'{"subject": "A", "channel": "email", "context": {"a": -1E+999}}',
    b'{"subject": "A", "channel": "email", "context": {"a": ' + b"9" * 310 + b".5}}",
    b'{"subject": "A", "channel": "email", "context": {"a": 1' + b"0" * 250 + b"e99}}",
    b'{"subject": "A\0", "channel": "email"}',
    b'{"subject": "A", "channel": "email"} {}',
    b"[" * 10_000 + b"]" * 10_000,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    nested_case(40).encode(),
    b'{"n": ' + b"9" * 5000 + b"}",
]


@each_row("body", MALFORMED)
async def test_malformed_or_too_deep_json_is_refused(client, body):
    """The response is 400 with the code `malformed_json`."""
    await expect_problem(await post(client, body), 400, "malformed_json")


async def test_context_is_stored_up_to_32_levels_deep(client):
    """A body of 32 levels is stored and returned unchanged. A body of 33 levels is refused."""
    case = await expect_json(await post(client, nested_case(32)), 201)
    assert (await read_case(client, case))["context"] == case["context"] == json.loads(nested_case(32))["context"]
    await expect_problem(await post(client, nested_case(33)), 400, "malformed_json")


WRONG_FIELDS = {
    "subject": [None, "\x1f\u0085\ufeff\u2003", "", "  \n", "x" * 256, 1, ["A"]],
    "description": [{}, "x" * 65_537],
    "customerId": ["x" * 37, 17],
    "channel": ["", "x" * 33],
    "priority": ["extreme", ["low"]],
    "assignedAgentId": ["", "none", " ", "\u00a0"],
    "team": ["none", " ", "\u00a0"],
    "context": ["order", [{}] * 501, {"a": "đ" * 32_765}, [{"a": "x" * 40_000}] * 2, [{"a": [0] * 32_768}]],
    "context.0": [["order"]],
    "context.1": [[{}, 1]],
    "tags": ["late"],
    "tags.0": [[1], ["x" * 65]],
    "initialMessage": ["Hello"],
    "initialMessage.metadata": [MESSAGE | {"metadata": {"a": "x" * 65_530}}],
    "initialMessage.authorType": [MESSAGE | {"authorType": "ghost"}],
    "initialMessage.message": [{"authorType": "agent"}],
}


@each_row("named, value", [(named, value) for named, values in WRONG_FIELDS.items() for value in values])
async def test_every_invalid_field_is_named(client, metric_changes, named, value):
    """The response is 422, and no case is opened.

    A case is not assigned to a blank, or to the word for cases without an agent or a team.
    """
    problem = await expect_problem(
        await post(client, json.dumps(CASE | {named.partition(".")[0]: value})), 422, "invalid_request"
    )
    assert named_fields(problem) == {named}
    assert metric_changes.total("support_ticket_created_total") == 0


async def test_context_and_metadata_are_limited_to_64_kib(client):
    """The limit applies to the compact JSON, whatever whitespace the client sends."""
    context, metadata = [{"a": "đ" * 32_763}], {"a": "x" * 65_528}
    assert len(to_json(context)) == len(to_json(metadata)) == 65_536
    opening = CASE | {"context": context, "initialMessage": MESSAGE | {"metadata": metadata}}
    async with await post(client, json.dumps(opening, indent=9)) as response:
        assert response.status == 201
        path = f"/support/cases/{(case := await response.json())['id']}"
    context[0]["a"] += "x"
    metadata["a"] += "x"
    refusals = [
        await expect_problem(client.patch(path, json={"context": context}), 422, "invalid_request"),
        await expect_problem(
            client.post(f"{path}/messages", json=MESSAGE | {"metadata": metadata}), 422, "invalid_request"
        ),
        await expect_problem(
            client.post(f"{path}/close", json=MESSAGE | {"metadata": metadata}), 422, "invalid_request"
        ),
    ]
    limit = "must have at most 65,536 bytes as compact JSON"
    assert [problem["errors"] for problem in refusals] == [
        [{"field": field, "message": limit}] for field in ("context", "metadata", "metadata")
    ]
    assert await read_case(client, case) == case | {"timeline": []}


SIZES = [
    *((1e308, 309), (-5e-324, 327), (1e17, 18), (1.25e-7, 11), (123.25, 6), ('1e308 "5e-324', 16)),
    *(("\x01", 8), ("đ", 4)),
]


@each_row("value, length", SIZES)
async def test_json_size_counts_numbers_and_text_as_returned(client, value, length):
    """Numbers count without exponents, as PostgreSQL returns them, and text counts with its JSON escapes.

    PostgreSQL writes a space after each comma, which does not count.
    """
    number, rest = divmod(65_536 - len('{"a":[""]}'), length + len(","))
    metadata = {"a": [value] * number + ["x" * rest]}
    async with await post(client, json.dumps(CASE | {"initialMessage": MESSAGE | {"metadata": metadata}})) as response:
        assert response.status == 201, await response.text()
        path = f"/support/cases/{(await response.json())['id']}"
    async with client.get(path) as response:
        assert len((await response.read()).replace(b", ", b",")) < 65_536 + 1200
        stored = (await response.json())["messages"][0]["metadata"]["a"]
    assert [type(value)(each) for each in stored[:-1]] == [value] * number
    metadata["a"][-1] += "x"
    new_message = client.post(f"{path}/messages", json=MESSAGE | {"metadata": metadata})
    for change in (new_message, client.patch(path, json={"context": metadata})):
        await expect_problem(change, 422, "invalid_request")


@each_row("body", ["[]", "1", "null", '"text"', "true"])
async def test_json_body_that_is_not_an_object_is_refused(client, body):
    """The response is 422 and names the body."""
    assert named_fields(await expect_problem(await post(client, body), 422, "invalid_request")) == {"body"}


WITH_NUL = [{"subject": "A\0B"}, {"customerId": "\0"}, {"context": {"a\0b": 1}}, {"context": [{"a": [{"b": "\0"}]}]}]


@each_row("change", WITH_NUL)
async def test_nul_character_is_refused_in_every_field(client, change):
    """This holds for fields, for keys, and for values deep in a context."""
    await expect_problem(await post(client, json.dumps(CASE | change)), 422, "invalid_request")


WRONG_URLS = [
    ("GET", "/support/cases?customerId=%00"),
    ("GET", "/support/cases?channel=a%00b"),
    ("GET", "/support/cases?q=%00"),
    ("GET", "/support/cases?assignedAgentId=%FF"),
    ("GET", "/support/agents/%00/workload"),
    ("GET", "/support/agents/%FF/workload"),
    ("GET", "/support/customers/%00"),
    ("GET", "/support/customers/%FF"),
    ("GET", "/support/customers/%ED%A0%80"),
    ("POST", "/support/cases/{id}/status?status=open&assignedAgentId=a%00b"),
    ("POST", "/support/cases/{id}/close?assignedAgentId=%00"),
    ("GET", "/support/cases/{id}/attachments/%00/a.txt"),
    ("DELETE", "/support/cases/{id}/attachments/%00"),
]


@each_row("method, path", WRONG_URLS)
async def test_nul_or_invalid_utf8_in_a_url_is_no_server_error(client, method, path):
    """The request is refused or matches nothing, in a query as in a path."""
    case = await open_case(client)
    async with client.request(method, URL(path.format(id=case["id"]), encoded=True)) as response:
        assert response.status in (200, 404, 422), await response.text()
    assert (await read_case(client, case))["assignedAgentId"] is None


BODY_IS_VALIDATED_ALTHOUGH_THE = [
    '{"status": "lost"}',
    '{"assignedAgentId": 7}',
    '{"status": "open", "assignedAgentId": ""}',
]


@each_row("body", BODY_IS_VALIDATED_ALTHOUGH_THE)
async def test_body_is_validated_although_the_query_overrides_it(client, body):
    """An invalid field of the body is refused even if the query replaces it. An empty object is accepted."""
    path = f"/support/cases/{(await open_case(client))['id']}/status?status=pending&assignedAgentId=agent-7"
    await expect_problem(await post(client, body, path), 422, "invalid_request")
    async with await post(client, "{}", path) as response:
        assert (response.status, (await response.json())["status"]) == (200, "pending")


@pytest.mark.parametrize("size", [1_048_577, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_json_body_over_1_mib_is_refused(client, size, chunked):
    """The response is 413, with a Content-Length or in chunks."""
    body = json.dumps(CASE | {"description": ""})[:-2].encode().ljust(size - 2, b"x") + b'"}'

    async def parts():
        for start in range(0, size, 65_536):
            yield body[start : start + 65_536]

    await expect_problem(await post(client, parts() if chunked else io.BytesIO(body)), 413, "body_too_large")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
@pytest.mark.parametrize("path", ["", "/{id}/messages", "/{id}/status", "/{id}/close"])
async def test_body_of_another_content_type_is_refused(client, content_type, path):
    """Browsers send other content types across origins without a preflight request."""
    case = await open_case(client)
    headers = {"Content-Type": content_type}
    response = await post(client, json.dumps(CASE), "/support/cases" + path.format(id=case["id"]), headers)
    await expect_problem(response, 415, "unsupported_type")


@each_row(
    "content_type",
    ["application/json; charset=utf-8", "application/merge-patch+json", "application/json; " + "(" * 4000]
    + [f"Application/JSON{odd * 1000}" for odd in (";a", ';1"', "; (")],
)
async def test_json_content_type_may_have_parameters_or_a_suffix(client, content_type):
    """Types with `+json` and types with parameters, even malformed ones, are accepted."""
    await expect_json(await post(client, json.dumps(CASE), headers={"Content-Type": content_type}), 201)


async def test_client_that_disconnects_while_sending_json_is_no_server_error(client, metric_changes):
    """The request counts with the status 499."""
    _, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(
        b"POST /support/cases HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    await eventually(lambda: service_of(client).readiness.in_progress == 1)
    writer.transport.abort()
    name = "http_server_request_duration_seconds_count"
    await eventually(lambda: metric_changes.nonzero_labels(name) != [])
    assert [labels["http_response_status_code"] for labels in metric_changes.nonzero_labels(name)] == ["499"]


@pytest.mark.parametrize(("entries", "reported"), [(200_000, 1), (500, 100)])
async def test_number_of_reported_errors_is_limited(client, entries, reported):
    """A problem lists at most 100 errors. A context with too many entries is a single error."""
    response = await post(client, json.dumps(CASE | {"context": [0] * entries}))
    assert len((await expect_problem(response, 422, "invalid_request"))["errors"]) == reported


@each_row("unit", ["[],", "[[]],", '{"a":{}},'])
async def test_json_with_too_many_objects_and_lists_is_refused(client, unit):
    """The body is refused before it is parsed. Brackets in a text do not count."""
    body = f'{{"subject": "A", "channel": "email", "context": [{unit * 10_000}1]}}'
    problem = await expect_problem(await post(client, body), 400, "malformed_json")
    assert "10,000 objects and lists" in problem["detail"]
    text = '\\" ' + "[{" * 10_000
    async with await post(client, json.dumps(CASE | {"description": text})) as response:
        assert (response.status, (await response.json())["description"]) == (201, text)


async def test_request_times_out_when_its_body_does_not_arrive(make_client):
    """The response is 408, and the connection is closed."""
    client = await make_client(timings=Timings(guard=GuardTimings(body_timeout=0.0)))
    answered = asyncio.Event()

    async def unfinished():
        yield b"{"
        await answered.wait()

    headers = {"Content-Type": "application/json"}
    async with client.post("/support/cases", data=unfinished(), headers=headers) as response:
        answered.set()
        await expect_problem(response, 408, "body_too_slow")
        assert response.headers["Connection"] == "close"


async def test_text_of_the_database_never_reaches_a_client(make_client):
    """A statement that the database rejects is answered with a text of the service's own."""
    client = await make_client()
    case = await open_case(client)
    async with service_of(client).database.transaction() as tx:
        await tx.execute(sa.text("ALTER TABLE tickets RENAME TO elsewhere"))
    for path in ("/support/cases", "/support/cases?q=parcel", f"/support/cases/{case['id']}"):
        response = await client.get(path)
        text = await response.text()
        assert response.status >= 500, path
        assert not re.search("ticket|table|sql|relation", text.replace(case["id"], ""), re.IGNORECASE), text


REFUSED_URIS = [
    *("javascript:alert(1)", "JavaScript:alert(1)", "java\tscript:alert(1)", "java\nscript:alert(1)"),
    *(" javascript:alert(1)", "\x01javascript:alert(1)", "javascript://host/%0aalert(1)"),
    *("data:text/html,<script>alert(1)</script>", "vbscript:x", "file:///etc/passwd", "blob:https://host/1"),
    *("//evil.test/x", "\\\\evil.test\\x", "/\\evil.test/x", "https:\\\\evil.test/x", "https:/evil.test/x"),
    *("https:evil.test/x", "https:///evil.test/x", "https://", "https://?x", "https://bank.test@evil.test/x"),
    *("https://user:password@evil.test/x", "https://evil.test\\@bank.test/x", "https://[::1/x"),
    *("https://host:port/x", "https://host:65536/x", "https://host:99999/", "https://host:100000"),
    *("https://host/a b", " https://host/x", "https://host/x\n", "https://host/\u202egnp.x"),
    *('https://host/"onclick=x', "ht\ttps://host/x", "/other/path", "/support/cases/../../attachments/x"),
    *("/support/cases//attachments/x", "/support/cases/a/attachments/"),
    *("/support/cases/a/attachments/b/../../../../console/x", "/support/cases/a/attachments/b/%2E%2e?c"),
    *("/support/cases/a/attachments/b/./c", "x.png", "#x"),
]


@each_row("uri", REFUSED_URIS)
async def test_attachment_uri_that_may_run_or_mislead_is_refused(client, uri):
    """Agents' tools show the URI as a link, so only web addresses and the service's own files are accepted."""
    case = f"/support/cases/{(await open_case(client))['id']}"
    message = MESSAGE | {"attachmentUri": uri}
    bodies = [("/support/cases", CASE | {"initialMessage": message}), (f"{case}/messages", message)]
    for path, body in [*bodies, (f"{case}/close", message)]:
        problem = await expect_problem(client.post(path, json=body), 422, "invalid_request")
        (error,) = problem["errors"]
        assert error["field"].endswith("attachmentUri")
        assert "http or https" in error["message"]


ACCEPTED_URIS = [
    *("https://files.test/label.png", "HTTP://files.test:8080/a/b?c=d&e=f@g#h", "https://[2001:db8::1]:443/x"),
    *("https://files.test:65535", "https://files.test:00080/x", "https://files.test/phở.png", "https://files.test"),
    "/support/cases/0b6f7c0e-6a3c/attachments/7c9e6679/label%20one.png",
    "/support/cases/0b6f7c0e-6a3c/attachments/7c9e6679",
    "/support/cases/0b6f7c0e-6a3c/attachments/7c9e6679/..label?a=/../b",
]


@each_row("uri", ACCEPTED_URIS)
async def test_attachment_uri_of_the_web_or_of_the_service_is_stored_as_sent(client, uri):
    """The scheme may be in any case."""
    case = await open_case(client, initialMessage=MESSAGE | {"attachmentUri": uri})
    assert (await read_case(client, case))["messages"][0]["attachmentUri"] == uri


async def test_empty_attachment_uri_counts_as_missing(client):
    """Forms send empty fields. Text that spells an escaped NUL is ordinary text."""
    case = await open_case(client, subject="\\u0000", initialMessage=MESSAGE | {"attachmentUri": ""})
    assert (case["messages"][0]["attachmentUri"], case["subject"]) == (None, "\\u0000")


async def test_several_invalid_fields_are_named(client):
    """Also the fields of a change."""
    sent = {"subject": None, "channel": 1, "priority": 2, "initialMessage": {}}
    problem = await expect_problem(await post(client, json.dumps(CASE | sent)), 422, "invalid_request")
    assert named_fields(problem) == {"subject", "channel", "priority"} | {
        "initialMessage.authorType",
        "initialMessage.message",
    }
    case = await open_case(client)
    changing = client.patch(f"/support/cases/{case['id']}", json={"assignedAgentId": "none", "team": " "})
    assert named_fields(await expect_problem(changing, 422, "invalid_request")) == {"assignedAgentId", "team"}


async def test_error_of_a_query_as_a_whole_names_the_query(client):
    """The begin of a report is after its end."""
    refused = client.get("/support/reports?from=2199-12-31&to=1970-01-01")
    assert named_fields(await expect_problem(refused, 422, "invalid_request")) == {"query"}
