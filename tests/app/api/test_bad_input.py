"""Requests that can't be right: each gets a clear problem, none breaks the service."""

import asyncio
import io
import json

import pytest
from pydantic_core import to_json
from yarl import URL

from support_service.app import Timings
from support_service.http.component import READINESS, HttpTimings
from tests.conftest import both_databases
from tests.support.calls import eventually, expect_problem, open_case, read_case

JSON = {"Content-Type": "application/json"}
CASE = {"subject": "A", "channel": "email"}
SAID = {"authorType": "agent", "message": "x"}


def fields(problem):
    """The fields that a problem names."""
    return {error["field"] for error in problem["errors"]}


async def post(client, body, path="/support/cases", headers=None):
    """Send a raw body as JSON."""
    return await client.post(path, data=body, headers=headers or JSON)


def nested(depth):
    """A case whose body nests this deep: the context's own depth counts, and the case's."""
    inner = depth - 2
    opening = '{"a":' * inner
    return '{"subject":"A","channel":"email","context":[' + opening + "1" + "}" * inner + "]}"


@pytest.mark.parametrize(
    "body",
    [
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
        nested(40).encode(),
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
)
async def test_a_body_that_is_no_json(client, body):
    """What is no JSON, or nests too deep, is 400 and says so."""
    await expect_problem(await post(client, body), 400, "malformed_json")


@both_databases
async def test_a_context_may_be_deep_but_not_too_deep(client):
    """A body of 32 levels is kept and given back, one of 33 refused."""
    async with await post(client, nested(32)) as response:
        assert response.status == 201
        case = await response.json()
    assert (await read_case(client, case))["context"] == case["context"] == json.loads(nested(32))["context"]
    await expect_problem(await post(client, nested(33)), 400, "malformed_json")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"subject": None}, {"subject"}),
        ({"subject": "\x1f\u0085\ufeff\u2003"}, {"subject"}),
        ({"subject": ""}, {"subject"}),
        ({"subject": "  \n"}, {"subject"}),
        ({"subject": "x" * 256}, {"subject"}),
        ({"subject": 1}, {"subject"}),
        ({"subject": ["A"]}, {"subject"}),
        ({"description": {}}, {"description"}),
        ({"description": "x" * 65_537}, {"description"}),
        ({"customerId": "x" * 37}, {"customerId"}),
        ({"customerId": 17}, {"customerId"}),
        ({"channel": ""}, {"channel"}),
        ({"channel": "x" * 33}, {"channel"}),
        ({"priority": "extreme"}, {"priority"}),
        ({"priority": ["low"]}, {"priority"}),
        ({"assignedAgentId": ""}, {"assignedAgentId"}),
        ({"context": "order"}, {"context"}),
        ({"context": ["order"]}, {"context.0"}),
        ({"context": [{}, 1]}, {"context.1"}),
        ({"context": [{}] * 501}, {"context"}),
        ({"context": {"a": "đ" * 32_765}}, {"context"}),
        ({"context": [{"a": "x" * 40_000}, {"a": "x" * 40_000}]}, {"context"}),
        ({"context": [{"a": [0] * 32_768}]}, {"context"}),
        ({"tags": "late"}, {"tags"}),
        ({"tags": [1]}, {"tags.0"}),
        ({"tags": ["x" * 65]}, {"tags.0"}),
        ({"initialMessage": "Hello"}, {"initialMessage"}),
        ({"initialMessage": {}}, {"initialMessage.authorType", "initialMessage.message"}),
        ({"initialMessage": SAID | {"metadata": {"a": "x" * 65_530}}}, {"initialMessage.metadata"}),
        ({"initialMessage": {"authorType": "ghost", "message": "x"}}, {"initialMessage.authorType"}),
        ({"subject": None, "channel": 1, "priority": 2}, {"subject", "channel", "priority"}),
    ],
)
async def test_a_wrong_field_is_named(client, metrics, change, named):
    """A body that breaks rules is 422, and each field that does is named; nothing is opened."""
    assert fields(await expect_problem(await post(client, json.dumps(CASE | change)), 422, "invalid_request")) == named
    assert metrics.total("support_ticket_created_total") == 0


@both_databases
async def test_json_of_any_kind_is_bounded(client):
    """A context and a message's metadata have 64 KiB as compact JSON, however they are sent; beyond is refused."""
    context, metadata = [{"a": "đ" * 32_763}], {"a": "x" * 65_528}
    assert len(to_json(context)) == len(to_json(metadata)) == 65_536
    opening = CASE | {"context": context, "initialMessage": SAID | {"metadata": metadata}}
    async with await post(client, json.dumps(opening, indent=9)) as response:
        assert response.status == 201
        path = f"/support/cases/{(case := await response.json())['id']}"
    context[0]["a"] += "x"
    metadata["a"] += "x"
    refusals = [
        await expect_problem(await client.patch(path, json={"context": context}), 422, "invalid_request"),
        await expect_problem(
            await client.post(f"{path}/messages", json=SAID | {"metadata": metadata}), 422, "invalid_request"
        ),
        await expect_problem(
            await client.post(f"{path}/close", json=SAID | {"metadata": metadata}), 422, "invalid_request"
        ),
    ]
    said = "must have at most 65,536 bytes as compact JSON"
    assert [problem["errors"] for problem in refusals] == [
        [{"field": field, "message": said}] for field in ("context", "metadata", "metadata")
    ]
    assert await read_case(client, case) == case


@both_databases
@pytest.mark.parametrize(
    ("value", "length"),
    [
        (1e308, 309),
        (-5e-324, 327),
        (1e17, 18),
        (1.25e-7, 11),
        (123.25, 6),
        ('1e308 "5e-324', 16),
        ("\x01", 8),
        ("đ", 4),
    ],
)
async def test_json_counts_as_it_is_read(client, value, length):
    """Numbers count without exponents, as PostgreSQL gives them back, and texts as they are written in JSON."""
    number, rest = divmod(65_536 - len('{"a":[""]}'), length + len(","))
    metadata = {"a": [value] * number + ["x" * rest]}
    async with await post(client, json.dumps(CASE | {"initialMessage": SAID | {"metadata": metadata}})) as response:
        assert response.status == 201, await response.text()
        path = f"/support/cases/{(await response.json())['id']}"
    async with client.get(path) as response:
        assert len(await response.read()) < 65_536 + 1000
        kept = (await response.json())["messages"][0]["metadata"]["a"]
    assert [type(value)(each) for each in kept[:-1]] == [value] * number
    metadata["a"][-1] += "x"
    said = client.post(f"{path}/messages", json=SAID | {"metadata": metadata})
    for change in (said, client.patch(path, json={"context": metadata})):
        await expect_problem(await change, 422, "invalid_request")


@pytest.mark.parametrize("body", ["[]", "1", "null", '"text"', "true"])
async def test_json_that_is_no_object(client, body):
    """JSON that is no object is 422."""
    assert fields(await expect_problem(await post(client, body), 422, "invalid_request")) == {"body"}


@pytest.mark.parametrize(
    "document",
    [
        CASE | {"subject": "A\0B"},
        CASE | {"customerId": "\0"},
        CASE | {"context": {"a\0b": 1}},
        CASE | {"context": [{"a": [{"b": "\0"}]}]},
    ],
)
@both_databases
async def test_a_nul_is_refused_wherever_it_is(client, document):
    """No text may hold a NUL, be it in a field, a key or deep in a context."""
    await expect_problem(await post(client, json.dumps(document)), 422, "invalid_request")


@both_databases
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/support/cases?customerId=%00"),
        ("GET", "/support/cases?channel=a%00b"),
        ("GET", "/support/cases?q=%00"),
        ("GET", "/support/cases?assignedAgentId=%FF"),
        ("GET", "/support/agents/%00/workload"),
        ("GET", "/support/agents/%FF/workload"),
        ("POST", "/support/cases/{id}/status?status=open&assignedAgentId=a%00b"),
        ("POST", "/support/cases/{id}/close?assignedAgentId=%00"),
        ("GET", "/support/cases/{id}/attachments/%00/a.txt"),
        ("DELETE", "/support/cases/{id}/attachments/%00"),
    ],
)
async def test_a_nul_or_a_broken_letter_in_an_address_breaks_nothing(client, method, path):
    """What no text can hold is refused or finds nothing, in a query as in a path: it is no failure of the service."""
    case = await open_case(client)
    async with client.request(method, URL(path.format(id=case["id"]), encoded=True)) as response:
        assert response.status in (200, 404, 422), await response.text()
    assert (await read_case(client, case))["assignedAgentId"] is None


@pytest.mark.parametrize(
    "body", ['{"status": "lost"}', '{"assignedAgentId": 7}', '{"status": "open", "assignedAgentId": ""}']
)
async def test_a_body_beside_a_query(client, body):
    """A body whose wrong field the query would replace is refused all the same; one that leaves it out is none."""
    path = f"/support/cases/{(await open_case(client))['id']}/status?status=pending&assignedAgentId=agent-7"
    await expect_problem(await post(client, body, path), 422, "invalid_request")
    async with await post(client, "{}", path) as response:
        assert (response.status, (await response.json())["status"]) == (200, "pending")


@pytest.mark.parametrize("size", [1_048_577, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_a_mebibyte(client, size, chunked):
    """A JSON body over 1 MiB is 413, whether it says its length or not."""
    body = json.dumps(CASE | {"description": ""})[:-2].encode().ljust(size - 2, b"x") + b'"}'

    async def parts():
        for start in range(0, size, 65_536):
            yield body[start : start + 65_536]

    await expect_problem(await post(client, parts() if chunked else io.BytesIO(body)), 413, "body_too_large")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
@pytest.mark.parametrize("path", ["", "/{id}/messages", "/{id}/status", "/{id}/close"])
async def test_a_body_that_is_not_declared_as_json(client, content_type, path):
    """Only a body that is declared as JSON is read as JSON, as a browser sends other types across origins."""
    case = await open_case(client)
    headers = {"Content-Type": content_type}
    response = await post(client, json.dumps(CASE), "/support/cases" + path.format(id=case["id"]), headers)
    await expect_problem(response, 415, "unsupported_type")


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", "application/merge-patch+json", "application/json; " + "(" * 4000]
    + [f"Application/JSON{odd * 1000}" for odd in (";a", ';1"', "; (")],
)
async def test_json_by_another_name(client, content_type):
    """Parameters and `+json` types are JSON too."""
    async with await post(client, json.dumps(CASE), headers={"Content-Type": content_type}) as response:
        assert response.status == 201


async def test_a_client_that_leaves_in_a_json_body(client, metrics):
    """A client that goes away before its body is whole is no failure of the service."""
    _, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(
        b"POST /support/cases HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    await eventually(lambda: client.app[READINESS].in_progress == 1)
    writer.transport.abort()
    name = "http_server_request_duration_seconds_count"
    await eventually(lambda: metrics.nonzero_labels(name) != [])
    assert [labels["http_response_status_code"] for labels in metrics.nonzero_labels(name)] == ["499"]


@pytest.mark.parametrize(("entries", "told"), [(200_000, 1), (500, 100)])
async def test_a_context_of_nonsense(client, entries, told):
    """Whatever is wrong with how many entries, the answer names some of it; too many are not looked at one by one."""
    response = await post(client, json.dumps(CASE | {"context": [0] * entries}))
    assert len((await expect_problem(response, 422, "invalid_request"))["errors"]) == told


@pytest.mark.parametrize("unit", ["[],", "[[]],", '{"a":{}},'])
async def test_a_body_of_nothing_but_brackets(client, unit):
    """More lists and objects than anyone needs are refused before they are read; in a text they are none."""
    body = f'{{"subject": "A", "channel": "email", "context": [{unit * 10_000}1]}}'
    problem = await expect_problem(await post(client, body), 400, "malformed_json")
    assert "10,000 objects and lists" in problem["detail"]
    text = '\\" ' + "[{" * 10_000
    async with await post(client, json.dumps(CASE | {"description": text})) as response:
        assert (response.status, (await response.json())["description"]) == (201, text)


async def test_a_body_that_does_not_come(make_client):
    """A client that begins a body and sends no more is refused, and its connection is closed."""
    client = await make_client(timings=Timings(http=HttpTimings(body_timeout=0.0)))
    answered = asyncio.Event()

    async def unfinished():
        yield b"{"
        await answered.wait()

    headers = {"Content-Type": "application/json"}
    async with client.post("/support/cases", data=unfinished(), headers=headers) as response:
        answered.set()
        await expect_problem(response, 408, "body_too_slow")
        assert response.headers["Connection"] == "close"


async def test_words_that_look_like_a_nul_character_are_taken(client):
    """Six characters that spell an escaped NUL are text like any other."""
    case = await open_case(client, subject="\\u0000")
    assert (await read_case(client, case))["subject"] == "\\u0000"
