"""The floor: the service's work on database, Redis, upstream services and disk for each request, without its features.

It sends the same statements in the same transactions, shares commits as the service does, and makes files as durable.
It checks and measures nothing, knows no callers, and writes the rows of the request that was recorded, with new ids.
"""

import asyncio
import gc
import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

import aiohttp
import asyncpg
import uvloop
from aiohttp import web

from benchmarks.bare_server import serve
from benchmarks.baseline import CASES, METRICS, SOURCES, Redis, answer
from benchmarks.recorded_requests import RecordedRequest, Statement, Unique, record
from support_service.attachments.storage.durable_write import GroupCommitter, PendingFile
from support_service.core.ids import new_id
from support_service.platform.background import run_in_background
from support_service.platform.database.postgres.group_commit import MAX_IN_FLIGHT
from support_service.platform.settings import Settings
from support_service.timeline.redis_cache import COMPARE_AND_SET_SCRIPT
from support_service.timeline.snapshots import cache_key

POOL = 10  # connections to PostgreSQL: the service's default
CHECKPOINT_INTERVAL = 1.0  # seconds
MAX_ATTEMPTS = 1000  # to execute a statement
TTL_MS = b"300000"  # of a cached timeline
COMPARE_AND_SET = COMPARE_AND_SET_SCRIPT.encode()
# A cached timeline: the script finds the revision there. The entries are JSON without brackets.
CACHED = (
    b'{"revision":"%s","entries":[{"type":"order","at":%s},%s,{"type":"payment","at":%s},{"type":"shipment","at":%s}]}'
)
REVISION, ENTRIES = slice(13, 45), slice(58, -2)


class Database(Protocol):
    """Runs what was recorded."""

    async def run(self, unit: list[Statement], unique: Unique) -> Mapping[str, Any] | None:
        """Run a transaction or a single statement, and return the first row of a single statement."""
        ...


class SqliteDatabase:
    """A connection that writes and one that reads. Transactions of one iteration of the event loop share a commit.

    Statements without values belong to no request but to the commit, and run once before it.
    """

    def __init__(self, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        reader.row_factory = sqlite3.Row
        self._writer = writer
        self._reader = reader
        self._committed: asyncio.Future[None] | None = None
        self._before_commit = dict[str, None]()  # statements in their order

    async def run(self, unit: list[Statement], unique: Unique) -> Mapping[str, Any] | None:
        if not unit[0].is_control:
            [[values]] = (statement.sets(unique) for statement in unit)
            row: Mapping[str, Any] | None = self._reader.execute(unit[0].sql, values).fetchone()
            return row
        if self._committed is None:
            self._writer.execute("BEGIN IMMEDIATE")
            self._committed = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(self._commit, self._committed)
        for statement in unit:
            if not statement.is_control:
                for values in statement.sets(unique):
                    if values:
                        self._writer.execute(statement.sql, values).fetchall()
                    else:
                        self._before_commit[statement.sql] = None
        await self._committed
        return None

    def _commit(self, committed: asyncio.Future[None]) -> None:
        self._committed = None
        for sql in self._before_commit:
            self._writer.execute(sql).fetchall()
        self._before_commit.clear()
        self._writer.execute("COMMIT")
        committed.set_result(None)


class Waiting(NamedTuple):
    """The values of a request in a shared statement, and the end of it."""

    values: list[Any]
    done: asyncio.Future[None]


class PostgresDatabase:
    """As many connections as the service has; the connection that was used last is used first.

    As in the service, requests that wait together share a statement.
    """

    def __init__(self, connections: Sequence["asyncpg.Connection[asyncpg.Record]"]) -> None:
        self._idle = asyncio.LifoQueue["asyncpg.Connection[asyncpg.Record]"]()
        for each in connections:
            self._idle.put_nowait(each)
        self._waiting: dict[str, dict[str, Waiting]] = {}  # for a shared statement, by its SQL and by the case
        self._in_flight = set[asyncio.Task[None]]()

    async def run(self, unit: list[Statement], unique: Unique) -> Mapping[str, Any] | None:
        if unit[0].is_shared:
            await self._run_shared(unit[0], unique)
            return None
        connection = await self._idle.get()
        rows: list[Any] = []
        try:
            for statement in unit:
                sets = statement.sets(unique)
                if statement.is_many:
                    await connection.executemany(statement.sql, sets)
                elif sets[0]:
                    rows = await connection.fetch(statement.sql, *sets[0])
                else:
                    await connection.execute(statement.sql)
        finally:
            self._idle.put_nowait(connection)
        return rows[0] if rows else None

    async def _run_shared(self, statement: Statement, unique: Unique) -> None:
        """Run a statement together with the statements that wait for the statements in progress."""
        waiting = self._waiting.setdefault(statement.sql, {})
        while unique["case"] in waiting:  # one statement changes a case once
            await waiting[unique["case"]].done
            waiting = self._waiting.setdefault(statement.sql, {})
        [values] = statement.sets(unique)
        done = asyncio.get_running_loop().create_future()
        waiting[unique["case"]] = Waiting(values, done)
        if len(self._in_flight) < MAX_IN_FLIGHT:
            sending = asyncio.create_task(self._send_waiting())
            self._in_flight.add(sending)
            sending.add_done_callback(self._in_flight.discard)
        await done

    async def _send_waiting(self) -> None:
        while self._waiting:
            sql = next(iter(self._waiting))
            group = self._waiting.pop(sql).values()
            columns = zip(*(each.values for each in group), strict=True)
            values = [list(chain.from_iterable(column)) for column in columns]
            connection = await self._idle.get()
            try:
                await _execute_again(connection, sql, values)
            except Exception as failure:  # noqa: BLE001 - the requests fail
                for each in group:
                    each.done.set_exception(failure)
            else:
                for each in group:
                    each.done.set_result(None)
            finally:
                self._idle.put_nowait(connection)


async def _execute_again(connection: "asyncpg.Connection[asyncpg.Record]", sql: str, values: list[Any]) -> None:
    """Execute a statement until another one, which changes the same case, is done."""
    for _ in range(MAX_ATTEMPTS):
        try:
            await connection.execute(sql, *values)
        except asyncpg.DataError:
            continue
        return
    raise TimeoutError(sql)


@asynccontextmanager
async def open_database(url: str, pragmas: list[str]) -> AsyncIterator[Database]:
    """Open the database of a URL, `sqlite:///…` or `postgresql://…`, during a `with` block."""
    async with AsyncExitStack() as stack:
        if url.startswith("sqlite:"):
            path = url.removeprefix("sqlite:///")
            connections = [sqlite3.connect(path, isolation_level=None, check_same_thread=False) for _ in range(3)]
            for connection in connections:
                stack.callback(connection.close)
                for pragma in pragmas:
                    connection.execute(pragma)
            writer, reader, other = connections
            await stack.enter_async_context(run_in_background(_checkpoint_periodically(other)))
            yield SqliteDatabase(writer, reader)
        else:
            settings = {"timezone": "UTC", "jit": "off"}
            opened = [await asyncpg.connect(url, server_settings=settings) for _ in range(POOL)]
            for each in opened:
                stack.push_async_callback(each.close)
            yield PostgresDatabase(opened)


async def _checkpoint_periodically(connection: sqlite3.Connection) -> None:
    while True:
        await asyncio.sleep(CHECKPOINT_INTERVAL)
        await asyncio.to_thread(connection.execute, "PRAGMA wal_checkpoint(PASSIVE)")


class KeptCase(NamedTuple):
    """A case as JSON without its last brace, and the entries of its timeline that it has itself."""

    version: int
    document: bytes
    own_entries: bytes


NOTHING_KEPT = KeptCase(0, b"", b"")  # versions start at 1


class FloorHandler:
    """A handler that dispatches the routes without a router."""

    def __init__(
        self,
        recorded: dict[str, RecordedRequest],
        database: Database,
        redis: Redis,
        http: aiohttp.ClientSession,
        files: Path,
    ) -> None:
        self._recorded = recorded
        self._database = database
        self._redis = redis
        self._http = http
        self._committer = GroupCommitter(files)
        self._kept: dict[str, KeptCase] = {}
        self._wanted: dict[bytes, asyncio.Future[bytes | None]] = {}  # keys that the next MGET asks for

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        path = request.path
        if path == "/metrics":
            return web.Response(body=METRICS, content_type="text/plain")
        case_id, _, action = path.removeprefix(CASES).strip("/").partition("/")
        if request.method == "GET":
            if "includeTimeline" in request.query_string:
                return answer(await self._timeline(case_id))
            return answer((await self._read("get", case_id)).document + b"}")
        if action == "timeline/refresh":
            return answer(await self._timeline(case_id, refresh=True))
        body = await request.read()
        if action == "attachments":
            return await self._write("upload", case_id, _only_part(body))
        return await self._write("message" if case_id else "create", case_id or new_id())

    async def _write(self, name: str, case_id: str, file: bytearray | None = None) -> web.Response:
        recorded = self._recorded[name]
        unique = recorded.unique(case_id)
        *checks, change = recorded.units
        for check in checks:
            await self._database.run(check, unique)
        if file is not None:
            stored_as = uuid4().hex
            unique["digest"] = hashlib.sha256(file).hexdigest()
            pending = PendingFile(stored_as, file, begun_in=None, folder=None)
            unique["key"] = f"{await self._committer.commit(pending)}/{stored_as}"
        await self._database.run(change, unique)
        return answer(recorded.answer(unique).encode(), 201)

    async def _read(self, name: str, case_id: str) -> KeptCase:
        """Return a case. As in the service, its JSON is read once for each of its versions."""
        kept = self._kept.get(case_id, NOTHING_KEPT)
        [unit] = self._recorded[name].units
        row = await self._database.run(unit, {"case": case_id, "version": kept.version})
        if row is None:
            raise LookupError(case_id)
        if row["version"] != kept.version:
            kept = self._kept[case_id] = _kept_case(row)
        return kept

    async def _timeline(self, case_id: str, *, refresh: bool = False) -> bytes:
        case = await self._read("timeline_cached", case_id)
        key = cache_key(case_id).encode()
        cached = await self._cached(key)
        if refresh or cached is None:
            order, events, payment, shipment = await asyncio.gather(*map(self._source, SOURCES))
            events = events[1:-1].replace(b'"type":', b'"type":"order-event","event":')
            seen = cached[REVISION] if cached else b""
            cached = CACHED % (uuid4().hex.encode(), order, events, payment, shipment)
            await self._redis.command(b"EVAL", COMPARE_AND_SET, b"1", key, cached, TTL_MS, seen)
        return b'%s,"timeline":[%s,%s]}' % (case.document, case.own_entries, cached[ENTRIES])

    def _cached(self, key: bytes) -> asyncio.Future[bytes | None]:
        """Return what Redis has under a key. As in the service, the reads of one iteration are one command."""
        loop = asyncio.get_running_loop()
        if not self._wanted:
            loop.call_soon(self._send_reads)
        if key not in self._wanted:
            self._wanted[key] = loop.create_future()
        return self._wanted[key]

    def _send_reads(self) -> None:
        wanted, self._wanted = self._wanted, {}

        def resolve(answered: asyncio.Future[list[bytes | None]]) -> None:
            for waiting, value in zip(wanted.values(), answered.result(), strict=True):
                waiting.set_result(value)

        self._redis.command(b"MGET", *wanted).add_done_callback(resolve)

    async def _source(self, path: str) -> bytes:
        async with self._http.get(path) as response:
            return await response.read()


def _kept_case(row: Mapping[str, Any]) -> KeptCase:
    messages, files = json.loads(row["messages"]), json.loads(row["attachments"])
    own = [
        *json.loads(row["fields"])["context"],
        *({"type": "conversation"} | each for each in messages),
        *({"type": "attachment"} | each for each in files),
    ]
    document = f'{row["fields"][:-1]},"messages":{row["messages"]},"attachments":{row["attachments"]}'
    return KeptCase(row["version"], document.encode(), json.dumps(own)[1:-1].encode())


def _only_part(body: bytes) -> bytearray:
    """Return the file of a multipart body that has nothing else."""
    return bytearray(body[body.index(b"\r\n\r\n") + 4 : body.rindex(b"\r\n--")])


async def main(port: int, redis_port: int, stub_url: str) -> None:
    """Record the requests of the service that the environment sets up, then serve until SIGTERM."""
    settings = Settings.load(os.environ)  # noqa: TID251 - this is a command
    recording = await record(settings)
    redis = await Redis.connect(redis_port)
    async with (
        open_database(settings.database.url, recording.pragmas) as database,
        aiohttp.ClientSession(stub_url, connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        handler = FloorHandler(recording.requests, database, redis, http, settings.attachments.directory)
        gc.collect()
        gc.freeze()  # the service does so, too
        await serve(handler, port=port)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
