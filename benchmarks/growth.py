"""Measure what a database of many cases grows to on PostgreSQL, and what retention and detaching leave of it.

Loads cases as `make bench-scale` does, with five audit entries each in one chain. Then it stores and deletes the closed
cases of the older part, with the commands of the service. It also moves the audit entries of that part to a file. A
line for each step has its time, and the sizes of the tables after it. A line after each step that changes the tables
has the median times of some requests to the service.
"""

import argparse
import asyncio
import http.client
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from time import perf_counter

import asyncpg
from tests.support.servers import PostgresServer

from benchmarks.databases import postgres_cluster
from benchmarks.environment import ROOT
from benchmarks.scale import rows
from benchmarks.scale.__main__ import measure as costs_of
from benchmarks.scale.__main__ import service, show_progress
from benchmarks.scale.calls import CALLS, CASES, Call
from benchmarks.scale.clocks import START
from benchmarks.scale.load import load
from support_service.platform.audit.chain import GENESIS, ChainHead, StoredAuditEntry, seal_entry
from support_service.platform.database import migrate

CASES_PER_DAY = 5_000
INTERVAL = timedelta(seconds=40)  # between two cases of `benchmarks.scale.rows`
ENTRIES = (  # of a case: action, changes, hours after its opening
    ("case.opened", '{"customerId":[null,"customer-12345"],"status":[null,"open"],"priority":[null,"normal"]}', 0),
    *(
        ("message.added", f'{{"messageId":[null,"{"0" * 36}"],"authorType":[null,"agent"]}}', hour)
        for hour in (1, 2, 3)
    ),
    ("case.closed", '{"status":["open","closed"]}', 4),
)
BATCH = 20_000  # cases whose entries are copied at once
SIZES = """
SELECT coalesce(json_object_agg(relname, pg_total_relation_size(oid)), '{}') FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
READS = (
    "list, newest 50",
    "agent, open",
    "sort=waiting, team",
    "sort=updated",
    "customer",
    "q: word in every case",
    "q: word in 200 cases",
    "workload",
)
DEEP = 50  # pages of PAGE cases before one that is deep in a list
PAGE = 100
NEWEST = 50  # open cases that are read and get messages
MEASURED = ("loaded", "retention --export --erase", "audit detach", "VACUUM FULL")  # steps before requests
TABLES = ("tickets", "messages", "search_documents", "ticket_references", "audit_log")


def main() -> int:
    """Run the measurement and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument(
        "--cases",
        type=int,
        default=30 * CASES_PER_DAY,
        help="number of cases (default: %(default)s, a month of 5,000 a day)",
    )
    parser.add_argument(
        "--older",
        type=float,
        default=0.5,
        metavar="PART",
        help="part of the cases, the oldest ones, which retention and detaching take (default: %(default)s)",
    )
    parser.add_argument("--audited", type=int, metavar="N", help="only the oldest N cases have audit entries")
    parser.add_argument(
        "--data",
        type=lambda text: Path(text).resolve(),
        metavar="DIR",
        help="copy the database of this many cases that `make bench-scale ARGS='--data DIR'` has left there",
    )
    arguments = parser.parse_args()
    with postgres_cluster({"max_wal_size": "4GB"}, arguments.data and arguments.data / "postgresql") as server:
        name = f"cases_{arguments.cases}" if arguments.data else server.create_database()
        migrate.upgrade(server.url(name))
        if not arguments.data:
            load(server.url(name), arguments.cases, show_progress)
        asyncio.run(add_audit_entries(server.url(name), arguments.audited or arguments.cases))
        measure(server, name, arguments.cases, arguments.older)
    return 0


def measure(server: PostgresServer, name: str, count: int, older: float) -> None:
    """Run the steps on a loaded database, and print the figures of each."""
    url = server.url(name)
    border = START + INTERVAL * int(count * older)
    with tempfile.TemporaryDirectory(prefix="growth-", dir=ROOT / "var") as folder:
        command = Command(url, Path(folder))
        archive, segment = Path(folder) / "archive", Path(folder) / "audit.jsonl"
        age = f"{(datetime.now(UTC) - border).total_seconds() / 3600:.0f}h"
        until = border.date().isoformat()
        steps: list[tuple[str, Callable[[], str]]] = [
            ("loaded", lambda: ""),
            (
                "retention --export --erase",
                lambda: command("retention", "--closed-for", age, "--export", archive, "--erase"),
            ),
            ("audit export", lambda: command("audit", "export", "--until", until, segment)),
            ("audit verify FILE", lambda: command("audit", "verify", segment)),
            ("audit detach", lambda: command("audit", "detach", segment)),
            ("audit verify", lambda: command("audit", "verify")),
            ("VACUUM FULL", lambda: asyncio.run(_execute(url, "VACUUM FULL")) or ""),
        ]
        print("| step | seconds | CPU of the command, s | " + " | ".join(TABLES) + " | all | result |")
        print("| --- " * (len(TABLES) + 5) + "|")
        for number, (what, step) in enumerate(steps):
            show_progress(what, number, len(steps))
            started, used = perf_counter(), _cpu()
            result = step()
            seconds, cpu = perf_counter() - started, _cpu() - used
            asyncio.run(_execute(url, "VACUUM ANALYZE"))
            sizes = json.loads(server.run(SIZES, name))
            cells = (*(sizes[table] for table in TABLES), sum(sizes.values()))
            shown = " | ".join(f"{size / 1e6:,.0f} MB" for size in cells)
            print(f"| {what} | {seconds:.1f} | {cpu:.1f} | {shown} | {result} |", flush=True)
            if what in MEASURED:
                with service(url, command.attachments) as (port, _):
                    costs = costs_of(port, count, [*requests_of(port, count)], list)
                print("; ".join(f"{call}: {cost.ms:.1f} ms" for call, cost in costs.items()), flush=True)
        stored = sum(path.stat().st_size for path in archive.rglob("*") if path.is_file())
        print(f"archive: {stored / 1e6:,.0f} MB; audit file: {segment.stat().st_size / 1e6:,.0f} MB")


def requests_of(port: int, count: int) -> Iterator[Call]:
    """Yield the measured requests to a service. None needs a case that was deleted."""
    newest = (seq for seq in range(count, 0, -1) if rows.case(seq, count)["status"] == "open")
    still_open = [f"{CASES}/{rows.case_id(seq)}" for seq in islice(newest, NEWEST)]
    yield from (call for call in CALLS if call.name in READS)
    # The service keeps counts: each one is of another agent.
    yield Call("count", lambda number, _: f"{CASES}/count?status=open,pending&assignedAgentId={rows.agent(number)}")
    cursor = _deep_cursor(port)
    yield Call(f"list, after {DEEP * PAGE:,}", lambda *_: f"{CASES}?cursor={cursor}")
    yield Call("case", lambda number, _: still_open[number % NEWEST])
    yield Call("open a case", lambda *_: CASES, body={"subject": f"A {rows.FREQUENT}", "channel": "email"})
    message = {"authorType": "agent", "message": rows.BODIES[0]}
    yield Call("add a message", lambda number, _: f"{still_open[number % NEWEST]}/messages", body=message)


def _deep_cursor(port: int) -> str:
    connection, cursor = http.client.HTTPConnection("127.0.0.1", port, timeout=120), ""
    path = f"{CASES}?limit={PAGE}"
    for _ in range(DEEP):
        connection.request("GET", path)
        cursor = str(json.load(connection.getresponse())["nextCursor"])
        path = f"{CASES}?limit={PAGE}&cursor={cursor}"
    return cursor


class Command:
    """Runs commands of the service; returns the last line of each."""

    def __init__(self, url: str, folder: Path) -> None:
        self._folder = folder
        self.attachments = folder / "attachments"
        self._environ = {
            "PYTHONPATH": str(ROOT / "src"),
            "SUPPORT_DATABASE_URL": url,
            "SUPPORT_ATTACHMENT_DIR": str(self.attachments),
            "SUPPORT_LOG_LEVEL": "warning",
        }

    def __call__(self, *arguments: object) -> str:
        """Run a command that must succeed."""
        command = [sys.executable, "-m", "support_service", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self._folder, env=self._environ, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout.splitlines()[-1]


def _cpu() -> float:
    """Return the CPU time in seconds of the commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


async def add_audit_entries(url: str, count: int) -> None:
    """Add the entries of cases to the empty audit log, in one chain."""
    connection = await asyncpg.connect(url)
    head, columns = ChainHead(0, GENESIS), StoredAuditEntry._fields
    indexes = await connection.fetch(
        "SELECT indexname AS name, indexdef AS sql FROM pg_indexes WHERE tablename = 'audit_log' AND indexname ^@ 'ix_'"
    )
    for index in indexes:
        await connection.execute(f"DROP INDEX {index['name']}")
    for start in range(1, count + 1, BATCH):
        sealed = []
        for entry in _entries(range(start, min(start + BATCH, count + 1))):
            sealed.append(seal_entry(head, entry, b"0123456789abcdef"))
            head = sealed[-1].head_after
        await connection.copy_records_to_table("audit_log", records=sealed, columns=columns)
        show_progress("audit entries of cases", start, count)
    for index in indexes:
        await connection.execute(index["sql"])
    await connection.execute("UPDATE audit_head SET position = $1, hash = $2", head.position, head.hash)
    await connection.execute(
        "SELECT setval(pg_get_serial_sequence('audit_log', 'seq'), (SELECT max(seq) FROM audit_log))"
    )
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


def _entries(seqs: range) -> Iterator[StoredAuditEntry]:
    for seq in seqs:
        for number, (action, changes, hours) in enumerate(ENTRIES):
            at = START + INTERVAL * seq + timedelta(hours=hours)
            place = (seq - 1) * len(ENTRIES) + number + 1
            yield StoredAuditEntry(place, at, "lan", "agent", action, rows.case_id(seq), f"request-{place}", changes)


if __name__ == "__main__":
    sys.exit(main())
