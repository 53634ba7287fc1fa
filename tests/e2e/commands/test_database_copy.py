"""`support-service database copy`: a service moves from SQLite to PostgreSQL, whenever the copy is killed.

The short form kills one copy at each kind of step. The long form has COPY_CASES cases, and kills their copy COPY_KILLS
times while it copies or compares.
"""

import json
import os
import shutil
import signal
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
import asyncpg
import pytest
import sqlalchemy as sa
from benchmarks.scale.load import load

from support_service.core.clock import format_time, utc_now
from support_service.platform.database import tables
from support_service.platform.database.dialect import SearchWords, UtcDateTime
from support_service.platform.database.migrate import UNFINISHED_COPY, downgrade, latest_revision
from support_service.platform.database.tables import case_clocks, messages, metadata, outbox, restores, tickets, views
from tests.support.calls import add_message, eventually, expect_json, open_case, read_case, upload
from tests.support.crash.kills import print_figures, run_victim
from tests.support.crash.victim import before, modules
from tests.support.links import add_link
from tests.support.process import LONG_TIMEOUTS, run, running
from tests.support.servers import free_port
from tests.support.sessions import in_thread, inspect

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.timeout(7200)]

KILLS = int(os.environ.get("COPY_KILLS", "0"))  # 0 is the short form
CASES = int(os.environ.get("COPY_CASES", "1300"))  # their messages are two batches
MODULE = "platform/database/copying.py"
STORED, _ = before(MODULE, "note = next_note")
STEPS = (
    before(MODULE, "notes = [(SOURCE_NOTE"),  # the target is prepared, and nothing committed
    before(MODULE, "await table.store("),  # the first batch is noted, and nothing stored
    (STORED, 3),  # three batches are committed
    before(MODULE, 'await target.execute(f\'ALTER TABLE "{self.name}" ENABLE'),  # a batch is not committed
    (STORED, 9),  # now messages have one batch of two
    before(MODULE, 'await self._target.execute("VACUUM'),  # every row is there
    before(MODULE, "target.add("),  # the comparison
    before(MODULE, 'await tx.execute(sa.text(f"DROP'),  # the entry of the audit log is not committed
)
# A document whose text changes in JSONB: the order of its members, and its numbers.
CONTEXT = {"type": "note", "b": [1e5, 0.1, -0.0, 1.50, 12345678901234567890, 1e22, "Đơn"], "aa": {"y": None, "x": ""}}
AT = datetime(2026, 5, 12, 8, 30, 0, 125, tzinfo=UTC)
AUDIT = "/support/audit?limit=100"
READS = f"""
/support/cases?limit=100 /support/cases?q=parcel&limit=20 /support/cases?q=%22vase+blue%22 /support/cases?orderId=ORD-1
/support/cases?tag=vip /support/cases?status=open&priority=urgent /support/cases?sort=waiting&limit=20
/support/cases?sort=due&limit=20 /support/cases?snoozed=true&sort=snoozed /support/cases/count?status=open
/support/views?team=team-0 /support/macros /support/sla-policies /support/agents /support/agents/agent-1/workload
/support/reports?by=channel /support/reports?by=day,agent /support/customers?q=ann {AUDIT}
""".split()
CHANGING_MEMBERS = ("remaining", "nextCursor", "position", "hash")


@pytest.fixture
def source_url(sqlite_template, tmp_path):
    """A migrated SQLite database with many cases."""
    shutil.copy(sqlite_template, tmp_path / "source.db")
    url = f"sqlite:///{tmp_path / 'source.db'}"
    load(url, CASES, lambda *_: None)
    # Versions count from a base, also in the copy.
    inspect(url, insert(restores, {"version_base": 1000, "undone_after": AT}))
    return url


def insert(table, row):
    def add(connection):
        connection.execute(table.insert(), row)
        connection.commit()

    return add


@pytest.fixture
def empty_source_url(sqlite_template, tmp_path):
    shutil.copy(sqlite_template, tmp_path / "empty.db")
    return f"sqlite:///{tmp_path / 'empty.db'}"


@pytest.fixture
def target_url(postgres, postgres_template):
    name = postgres.create_database(postgres_template)
    yield postgres.url(name)
    postgres.drop_database(name)


async def work(client):
    """Work with a service as agents do; return the ids of the cases."""
    context = [{"type": "order", "orderId": "ORD-1"}, CONTEXT]
    first = await open_case(client, context=context, tags=["vip"], customerId="ann")
    second = await open_case(client, subject="Đơn hàng \U0001f4e6", description="A vase is broken", priority="urgent")
    for case in (first, second):
        await add_message(client, case, "The vase, blue, broke: 'r14_0' \\ \t\n", metadata={"score": 0.50})
        await add_message(client, case, "Seen", visibility="internal")
        await upload(client, case, b"a file of " + case["id"].encode())
    await add_link(client, first, second)
    third = await open_case(client, priority="urgent")
    for _ in range(2):
        await open_case(client, channel="chat")
    request = {"json": {"subject": "Once", "channel": "email"}, "headers": {"Idempotency-Key": "once"}}
    once = await expect_json(client.post("/support/cases", **request), 201)
    snoozed, duplicate = await open_case(client), await open_case(client)
    until = format_time(utc_now() + timedelta(days=300))
    for method, path, body in (
        ("POST", f"/support/cases/{snoozed['id']}/status", {"status": "pending", "until": until}),
        ("PUT", "/support/agents/agent-7", {"displayName": "Linh Trần", "teams": ["returns"]}),
        ("PUT", "/support/customers/ann", {"name": "Ann", "contacts": [{"kind": "email", "value": "a@b.c"}]}),
        ("PUT", "/support/customers/bob", {"notes": "Call her"}),
        ("PUT", "/support/macros/late", {"text": "Sorry, {{case.subject}}"}),
        ("POST", "/support/customers/bob/merge", {"into": "ann"}),
        ("PUT", f"/support/cases/{duplicate['id']}/followers/agent-8", None),
        ("POST", f"/support/cases/{duplicate['id']}/merge", {"into": snoozed["id"]}),
    ):
        async with client.request(method, path, json=body) as response:
            assert response.ok, (path, await response.text())
    await add_message(client, snoozed, "What do you think, @agent-7?", authorType="agent", visibility="internal")
    return [case["id"] for case in (first, second, third, duplicate, once)]


def count_overdue_clocks(connection):
    is_overdue = (case_clocks.c.state == "running") & (case_clocks.c.due_at < datetime.now(UTC))
    return connection.scalar(sa.select(sa.func.count()).where(is_overdue))


async def answers(client, case_ids):
    """Return what a service answers to reads."""
    paths = [*READS, *(f"/support/cases/{each}" for each in case_ids)]
    paths += [f"/support/cases/{each}/{what}" for each in case_ids for what in ("attachments", "audit", "followers")]
    found = {}
    for path in paths:
        async with client.get(path) as response:
            assert response.status == 200, (path, await response.text())
            document = json.loads(await response.text(), object_hook=without_changing_members)
            found[path] = document, response.headers.get("ETag")
    return found


def without_changing_members(document):
    """Leave out the time that a clock has left, the cursor, which differs in each answer, and the seal of an entry."""
    return {name: value for name, value in document.items() if name not in CHANGING_MEMBERS}


def fill_empty_tables(connection):
    """Give each table that has no row one, and the outbox a number that no row has any more."""
    values = {sa.Boolean: True, UtcDateTime: AT, sa.LargeBinary: b"\0\xff", sa.Double: 0.1}
    for table in metadata.sorted_tables:
        if connection.scalar(sa.select(sa.func.count()).select_from(table)):
            continue
        row = {}
        for column in table.c:
            found = next((value for kind, value in values.items() if isinstance(column.type, kind)), None)
            text_or_json = [1.50] if column.type.python_type is not str else column.name[:16]
            integer = 0 if table is restores else 7  # a restore with a base would change the versions in answers
            number = integer if isinstance(column.type, sa.Integer) else text_or_json
            row[column.name] = number if found is None else found
            for reference in column.foreign_keys:
                row[column.name] = connection.scalar(sa.select(reference.column).limit(1))
        connection.execute(table.insert(), row)
    last = connection.scalar(sa.select(sa.func.max(outbox.c.seq)))
    connection.execute(outbox.insert(), {"seq": last + 5, "type": "x", "at": "x", "event": "{}", "case_id": "x"})
    connection.execute(outbox.delete().where(outbox.c.seq == last + 5))
    connection.commit()
    return last + 5


def read_rows(connection):
    """Return the rows of each table by their keys; of search documents without their words."""
    found = {}
    for table in metadata.sorted_tables:
        columns = [column for column in table.c if not isinstance(column.type, SearchWords)]
        stored = connection.execute(sa.select(*columns)).mappings().all()
        key = [column.name for column in table.primary_key]
        rows = {tuple(row[name] for name in key): dict(row) for row in stored}
        found[table.name] = rows if key else sorted(tuple(row.values()) for row in stored)
    return found


@pytest.fixture
def serving(environment, tmp_path):
    """Run a service on a database during a block, as a process that leaves nothing open; yield a client of it."""

    @asynccontextmanager
    async def serve(url):
        address = f"http://127.0.0.1:{(port := free_port())}"
        variables = environment | {"SUPPORT_DATABASE_URL": url, "SUPPORT_PORT": str(port), "SUPPORT_RATE_LIMIT": "off"}
        variables["SUPPORT_RATE_LIMIT_ADDRESS"] = "off"
        async with running("serve", cwd=tmp_path, **variables, **LONG_TIMEOUTS) as process:
            await process.wait_until_ready(address)
            async with aiohttp.ClientSession(address) as client:
                yield client
            process.stop()
            status, _, errors = await process.wait_for_exit()
        assert status == 0, errors

    return serve


def copy_arguments(source_url, target_url):
    return "database", "copy", source_url, target_url


async def copy(source_url, target_url, cwd):
    """Run a copy to its end; return the exit status, the lines of its output, and its errors."""
    async with running(*copy_arguments(source_url, target_url), cwd=cwd) as process:
        status, out, errors = await process.wait_for_exit(within=3600)
    return status, [json.loads(line) for line in out.splitlines()], errors


async def kill_at(point, source_url, target_url, folder):
    """Run a copy that is killed at a point."""
    command = copy_arguments(source_url, target_url)
    assert await run_victim(command, {}, folder, point, watched=modules(MODULE)) == -signal.SIGKILL, point


async def kill_often(source_url, target_url, cwd, postgres):
    """Kill copies after equal parts of the work, and two of them while they compare; return where each was."""
    name = target_url.rpartition("/")[2]

    def read_notes():
        if not postgres.run(f"SELECT to_regclass('{UNFINISHED_COPY}')", name):
            return ""
        return postgres.run(f"SELECT * FROM {UNFINISHED_COPY} ORDER BY name", name)

    def compares():
        sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT%FROM messages' AND datname = '{}'"
        return postgres.run(sql.format(name)) != "0"

    def changes(count):
        """Return a condition that is true once the notes have changed this often, or the rows are compared."""
        seen = {read_notes()}
        return lambda: seen.add(read_notes()) or len(seen) > count or compares()

    batches = sum(len(table) // 5000 + 1 for table in inspect(source_url, read_keys).values())
    kills = []
    for number in range(KILLS):
        condition = compares if number >= KILLS - 2 else changes(max(1, batches // KILLS))
        async with running(*copy_arguments(source_url, target_url), cwd=cwd) as process:
            await eventually(condition, within=1800)
            kills.append("compare" if compares() else "copy")
            process.stop(signal.SIGKILL)
            status, _, errors = await process.wait_for_exit()
        assert status == -signal.SIGKILL, errors
    return kills


def read_keys(connection):
    """Return a range as long as each table."""
    count = sa.func.count()
    return {each.name: range(connection.scalar(sa.select(count).select_from(each))) for each in metadata.sorted_tables}


def check_output(lines):
    """Check what a complete copy prints, and return the number of rows."""
    *tables, summary = lines
    assert [each["table"] for each in tables] == [table.name for table in metadata.sorted_tables]
    assert all(each["equal"] and each["source"] == each["target"] and each["source"]["rows"] for each in tables)
    assert summary["equal"]
    assert summary["audit"]["source"] == summary["audit"]["target"]
    return sum(each["source"]["rows"] for each in tables)


def check_rows(source_url, target_url, number):
    """Check that the target has the rows of the source, and an entry about them in the audit log; return them."""
    copied = inspect(target_url, read_rows)
    entry = copied["audit_log"].pop(max(copied["audit_log"]))
    assert (entry["action"], json.loads(entry["changes"])) == ("database.copied", {"rows": [None, number]})
    assert copied == inspect(source_url, read_rows)
    return copied


async def check_new_work(client, case_ids):
    """Check that a repeated request has no second effect, and that new rows get numbers of their own."""
    request = {"json": {"subject": "Once", "channel": "email"}, "headers": {"Idempotency-Key": "once"}}
    assert (await expect_json(client.post("/support/cases", **request), 201))["id"] == case_ids[-1]
    new = await open_case(client, subject="After the move")
    await add_message(client, new)
    await upload(client, new)
    assert len((await read_case(client, new))["attachments"]) == 1
    for each in (await read_case(client, {"id": case_ids[0]}))["attachments"]:
        async with client.get(each["uri"]) as response:
            assert await response.read() == b"a file of " + case_ids[0].encode()


@pytest.mark.long
async def test_service_moves_to_postgresql_although_the_copy_is_killed(
    serving, source_url, target_url, postgres, tmp_path
):
    """Its answers stay the same, and new cases, events and files are numbered after the copied ones."""
    async with serving(source_url) as client:
        cases = await work(client)
        await eventually(lambda: inspect(source_url, count_overdue_clocks) == 0, within=1800)
        expected = await answers(client, cases)
    last_event = inspect(source_url, fill_empty_tables)
    if KILLS:
        kills = await kill_often(source_url, target_url, tmp_path, postgres)
        print_figures(f"copy: {CASES} cases, killed {len(kills)} times, {kills.count('compare')} of them comparing")
    else:
        for point in STEPS:
            await kill_at(point, source_url, target_url, tmp_path)
    on_target = {"cwd": tmp_path, "SUPPORT_DATABASE_URL": target_url}
    status, _, errors = await run("serve", **on_target)
    assert (status, "has a part of another one" in errors) == (2, True), errors
    status, lines, errors = await copy(source_url, target_url, tmp_path)
    assert (status, errors) == (0, "")
    copied = check_rows(source_url, target_url, number := check_output(lines))
    assert lines[-1]["found"] == number  # the last copy had only to compare
    for column, rows in (
        (tickets.c.snoozed_until, 1),
        (tickets.c.followers, 2),
        (tables.case_links.c.previous_status, 1),
        (tables.notifications.c.recipient, 3),
        (tables.customers.c.person, 2),
    ):
        assert sum(row[column.name] is not None for row in copied[column.table.name].values()) >= rows, column

    async with serving(target_url) as client:
        found = await answers(client, cases)
        await check_new_work(client, cases)
    newest, *older = found[AUDIT][0]["items"]
    assert newest["action"] == "database.copied"
    found[AUDIT][0]["items"] = older
    del expected[AUDIT][0]["items"][len(older) :]
    assert found == expected
    last_value = "SELECT last_value FROM pg_sequences WHERE sequencename = 'outbox_seq_seq'"
    assert int(postgres.run(last_value, target_url.rpartition("/")[2])) > last_event
    assert (await run("audit", "verify", **on_target))[0] == 0
    status, _, errors = await copy(source_url, target_url, tmp_path)
    assert (status, "The target is not empty" in errors) == (2, True)


async def test_killed_copy_goes_on_until_it_has_every_row(empty_source_url, target_url, tmp_path):
    """Each table has rows, and messages have more than a batch."""
    load(empty_source_url, 1, lambda *_: None)

    def add_messages(connection):
        row = dict(connection.execute(sa.select(messages).limit(1)).mappings().one())
        rows = [row | {"seq": row["seq"] + 1000 + n, "id": f"more-{n}", "external_id": None} for n in range(5000)]
        connection.execute(messages.insert(), rows)
        connection.commit()

    inspect(empty_source_url, add_messages)
    inspect(empty_source_url, fill_empty_tables)
    await kill_at(STEPS[2], empty_source_url, target_url, tmp_path)
    status, lines, errors = await copy(empty_source_url, target_url, tmp_path)
    assert (status, errors) == (0, "")
    check_rows(empty_source_url, target_url, check_output(lines))


async def test_copy_refuses_databases_in_use(serving, empty_source_url, target_url, tmp_path, postgres):
    """A service that still runs would change rows that are copied already, or add others between them."""
    for side, url in (("source", empty_source_url), ("target", target_url)):
        async with serving(url):
            status, _, errors = await copy(empty_source_url, target_url, tmp_path)
            assert (status, f"The {side} is in use: stop the service" in errors) == (2, True), errors
    used = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{target_url.rpartition('/')[2]}'"
    await eventually(lambda: postgres.run(used) == "0")  # the server may notice later that the service has ended
    assert (await copy(empty_source_url, target_url, tmp_path))[0] == 0


async def test_copy_refuses_what_it_can_not_copy(empty_source_url, target_url, tmp_path):
    """Each refusal says what to do, and changes nothing."""
    other_schema = f"sqlite:///{tmp_path / 'older.db'}"
    shutil.copy(empty_source_url.removeprefix("sqlite:///"), tmp_path / "older.db")
    in_thread(downgrade, other_schema, "-1")
    missing = f"sqlite:///{tmp_path / 'missing.db'}"
    for source, target, reason in (
        (other_schema, target_url, f"and this release needs {latest_revision()} on both sides"),
        (missing, target_url, "can't be read: unable to open database file"),
        (target_url, empty_source_url, "A copy goes from sqlite:///PATH to postgresql://"),
        (empty_source_url, f"{target_url}-missing", "can't be used"),
    ):
        status, _, errors = await copy(source, target, tmp_path)
        assert (status, reason in errors, errors.count("\n")) == (2, True, 1), errors
    assert not (tmp_path / "missing.db").exists()
    in_thread(downgrade, target_url, "-1")
    status, _, errors = await copy(empty_source_url, target_url, tmp_path)
    assert (status, "The target has the schema 00" in errors) == (2, True), errors


async def test_copy_reports_what_differs(serving, empty_source_url, target_url, postgres, tmp_path):
    """A target that was changed meanwhile is not released, and its table is named."""
    async with serving(empty_source_url) as client:
        case = await open_case(client)
    await kill_at(STEPS[-3], empty_source_url, target_url, tmp_path)
    postgres.run("UPDATE tickets SET subject = 'another'", target_url.rpartition("/")[2])
    status, lines, _ = await copy(empty_source_url, target_url, tmp_path)
    assert status == 1
    assert [each["table"] for each in lines[:-1] if not each["equal"]] == ["tickets"]
    postgres.run(f"UPDATE tickets SET subject = '{case['subject']}'", target_url.rpartition("/")[2])
    async with serving(empty_source_url) as client:
        await open_case(client)
    status, _, errors = await copy(empty_source_url, target_url, tmp_path)
    assert (status, "the source was used since the copy was interrupted" in errors) == (2, True)


async def test_copy_continues_after_its_connection_was_lost(serving, empty_source_url, target_url, postgres, tmp_path):
    """A restart or a failover of PostgreSQL ends the command, which says that it can be repeated."""
    async with serving(empty_source_url) as client:
        await open_case(client)
    name = target_url.rpartition("/")[2]
    ended = (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND wait_event_type = 'Lock'"
    )
    blocker = await asyncpg.connect(target_url)
    async with blocker.transaction():
        await blocker.execute("LOCK TABLE tickets IN SHARE ROW EXCLUSIVE MODE")  # the copy waits here to store rows
        async with running(*copy_arguments(empty_source_url, target_url), cwd=tmp_path) as process:
            await eventually(lambda: postgres.run(ended, name))
            status, _, errors = await process.wait_for_exit()
    await blocker.close()
    assert (status, "Run the same command again" in errors) == (2, True), errors
    status, lines, errors = await copy(empty_source_url, target_url, tmp_path)
    assert (status, errors) == (0, "")
    assert lines[-1]["found"] > 0


async def test_copy_names_the_table_of_a_row_that_postgresql_refuses(empty_source_url, target_url, tmp_path):
    """SQLite stores texts that PostgreSQL does not, such as one with a NUL. The message has no value."""
    view = {"id": "1", "team": "secret\0", "name": "n", "query": {}, "created_at": AT, "updated_at": AT}
    inspect(empty_source_url, insert(views, view))
    status, _, errors = await copy(empty_source_url, target_url, tmp_path)
    assert (status, "PostgreSQL refuses a row of views" in errors, "secret" in errors) == (2, True, False), errors
