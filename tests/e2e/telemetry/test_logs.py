"""The log: JSON lines that link a request to its trace and its case, without secrets."""

import logging
import sqlite3
from contextlib import closing

import pytest

from support_service.platform.telemetry.logs import ClientErrorFilter
from tests.support.calls import add_message, expect_problem, form, open_case, parse_log, read_detail

CALLER = "b7ad6b7169203331"
TRACE = "0af7651916cd43dd8448eb211c80319c"
ORDER = [{"type": "order", "orderId": "ORD-1"}]
SECRET = "s3cr3t-that-must-not-be-logged"


async def log_of(serve, session, port, act, **variables):
    """Run a client's requests against a service; return the log as entries and as text."""
    async with serve(SUPPORT_ACCESS_LOG="1", SUPPORT_LOG_LEVEL="debug", **variables) as service:
        await service.wait_until_ready(f"http://127.0.0.1:{port}")
        await act(session)
        service.stop()
        status, out, log = await service.wait_for_exit()
    assert (status, out) == (0, "")
    return parse_log(log), log


@pytest.mark.parametrize("traces", ["none", "otlp"])
async def test_lines_have_request_trace_and_case_ids(serve, session, port, orders, otlp_receiver, traces):
    """The access log and warnings of sources have them, with spans and without.

    A request that opens a case is logged with its id.
    """
    opened = {}

    async def act(session):
        opened["case"] = (await open_case(session, context=ORDER))["id"]
        orders.answer_with_bytes("not JSON")
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "X-Request-Id": "my-request"}
        path = f"/support/cases/{opened['case']}?includeTimeline=true"
        await (await session.get(path, headers=headers)).read()

    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp_receiver.url} if traces == "otlp" else {}
    variables = {"OTEL_TRACES_EXPORTER": traces, **endpoint}
    lines, _ = await log_of(serve, session, port, act, **variables)
    (entry,) = [
        line for line in lines if line["logger"] == "support_service.access" and line["requestId"] == "my-request"
    ]
    ids = {"requestId": "my-request", "trace_id": TRACE, "caseId": opened["case"]}
    assert entry.items() >= (ids | {"level": "INFO", "route": "/support/cases/{case_id}", "status": 200}).items()
    assert (entry["span_id"] == CALLER) == (traces == "none")  # with spans it is that of the service
    assert len(entry["span_id"]) == 16
    assert {"time", "message", "seconds"} <= entry.keys()
    (opening,) = [line for line in lines if line["message"].startswith("POST /support/cases")]
    assert opening["caseId"] == opened["case"]
    warnings = [line for line in lines if line["level"] == "WARNING"]
    assert warnings
    assert all(line.items() >= ids.items() for line in warnings)


async def test_no_content_or_credential_is_logged(serve, session, port, migrated_folder):
    """Messages, files, credentials, cookies, query values, rejected bodies, and passwords in URLs of servers.

    If a trigger of SQLite rejects a message, the log has the cause and not the text.
    """
    headers = {"Authorization": f"Bearer {SECRET}", "Cookie": f"token={SECRET}"}
    at = f"user:{SECRET}@127.0.0.1:9"  # no server is there
    urls = {"SUPPORT_REDIS_URL": f"redis://{at}", "SUPPORT_ORDER_URL": f"http://{at}"}

    async def act(session):
        case = await open_case(session, subject=SECRET, description=SECRET, customerId=SECRET, context=ORDER)
        await add_message(session, case, SECRET)
        await read_detail(session, case)
        path = f"/support/cases/{case['id']}"
        calls = [
            ("POST", f"{path}/messages", {"data": f'{{"message": "{SECRET}", "authorType": 1}}'}),
            ("POST", f"{path}/messages", {"data": f'{{"{SECRET}'}),
            ("POST", f"{path}/attachments", {"data": form(SECRET.encode())}),
            ("GET", f"/support/cases?q={SECRET}", {}),
            ("PATCH", path, {"json": {"tags": [SECRET]}}),
        ]
        for method, target, arguments in calls:
            await (await session.request(method, target, headers=headers, **arguments)).read()
        with closing(sqlite3.connect(migrated_folder / "var" / "support.db")) as connection:
            refuse = "BEGIN SELECT RAISE(ABORT, 'no more'); END"
            connection.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON messages {refuse}")
        await write_refused(session, case)

    lines, log = await log_of(serve, session, port, act, **urls)
    assert SECRET not in log
    assert len([line for line in lines if line["logger"] == "support_service.access"]) >= 8
    expect_cause(lines)


async def write_refused(session, case):
    """Write a message that the database rejects."""
    body = {"authorType": "agent", "message": SECRET, "metadata": {"token": SECRET}}
    refused = await session.post(f"/support/cases/{case['id']}/messages", json=body)
    await expect_problem(refused, 500, "internal_error")


def expect_cause(lines):
    """Fail unless the log has the cause of the rejected message."""
    (failure,) = [line["exc_info"] for line in lines if line["logger"] == "support_service.guard.problems"]
    assert "IntegrityError" in failure or "StatementError: " in failure
    assert "add_message" in failure


CONSTRAINT = "ALTER TABLE messages ADD CONSTRAINT never CHECK (author_type = 'nobody')"  # its DETAIL quotes the row
TRIGGER = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no more: %', row_to_json(NEW); END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION refuse()"""


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("rule", [CONSTRAINT, TRIGGER], ids=["constraint", "trigger"])
async def test_message_rejected_by_postgresql_is_not_logged(serve, session, port, database_url, postgres, rule):
    """If a trigger or a constraint rejects a message, the log has the cause and not the text."""

    async def act(session):
        case = await open_case(session)
        postgres.run(rule, database_url.rpartition("/")[2])
        await write_refused(session, case)

    lines, log = await log_of(serve, session, port, act, SUPPORT_DATABASE_URL=database_url)
    assert SECRET not in log
    expect_cause(lines)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_outage_of_the_database_is_a_few_lines(serve, session, port, database_url, postgres):
    """Each refused request has one line with its code; the cause is logged once, and nothing has a traceback."""

    async def act(session):
        await open_case(session)
        postgres.stop()
        for _ in range(20):
            await expect_problem(await session.get("/support/cases/c"), 503, "database_unavailable")

    lines, log = await log_of(serve, session, port, act, SUPPORT_DATABASE_URL=database_url)
    requests = [line for line in lines if line["logger"] == "support_service.access" and line["status"] == 503]
    assert [line["code"] for line in requests] == ["database_unavailable"] * 20
    causes = [line["message"] for line in lines if line["logger"] == "support_service.unavailable.database_unavailable"]
    assert len(causes) == 1
    assert "Connect" in causes[0]
    assert "Traceback" not in log
    assert not [line for line in lines if "exc_info" in line]
    assert len(lines) < 20 + 30


def test_client_error_is_logged_without_its_content():
    """A client error that aiohttp logs with a traceback becomes one INFO line; other errors stay errors."""
    for failure, level, message in (
        (ConnectionResetError(SECRET), "INFO", "A client failed: ConnectionResetError"),
        (LookupError("server error"), "ERROR", "Error handling request"),
    ):
        cause = (type(failure), failure, None)
        record = logging.LogRecord("aiohttp.server", logging.ERROR, "", 1, "Error handling request", (), cause)
        assert ClientErrorFilter().filter(record)
        assert (record.levelname, record.getMessage()) == (level, message)
        assert bool(record.exc_info) == (level == "ERROR")
