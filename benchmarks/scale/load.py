"""Bulk load of cases into an empty, migrated database: triggers and indexes are made at the end."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import asyncpg

from benchmarks.scale import clocks, rows

BATCH = 5_000  # cases
# What the triggers would have counted.
COUNTS = (
    "INSERT INTO case_counts (status, priority, number) SELECT status, priority, count(*) FROM tickets GROUP BY 1, 2",
    """
    INSERT INTO agent_counts (agent_id, status, number)
    SELECT assigned_agent_id, status, count(*) FROM tickets
    WHERE assigned_agent_id IS NOT NULL AND status IN ('open', 'pending') GROUP BY 1, 2
    """,
    """
    INSERT INTO clock_counts (target, number)
    SELECT target, count(*) FROM case_clocks WHERE state = 'running' GROUP BY 1
    """,
)
Progress = Callable[[str, int, int], None]  # what, done, of how many


def load(url: str, count: int, progress: Progress, *, analyze: bool = True, seq_of: Callable[[int], int] = int) -> None:
    """Load `count` cases with their messages into the database at `url`. Without `analyze`, leave out statistics.

    `seq_of` returns the seq of each case, which are numbered from 1.
    """
    if url.startswith("sqlite:///"):
        _load_sqlite(url.removeprefix("sqlite:///"), count, progress, seq_of)
    else:
        asyncio.run(_load_postgresql(url, count, progress, seq_of, analyze=analyze))


def _batches(count: int, seq_of: Callable[[int], int]) -> Iterator[tuple[int, dict[str, list[dict[str, Any]]]]]:
    """Yield (cases so far, rows by table)."""
    for start in range(1, count + 1, BATCH):
        found: dict[str, list[dict[str, Any]]] = {
            "tickets": [], "messages": [], "ticket_references": [], "ticket_tags": [], "search_documents": [],
            "case_clocks": [], "case_links": [], "notifications": [], "case_results": [],
        }  # fmt: skip
        if start == 1:
            found |= {
                "views": list(rows.views()),
                "sla_policies": list(clocks.policies()),
                "agents": list(rows.agents()),
                "customers": list(rows.customers(count)),
                "customer_terms": list(rows.customer_terms(count)),
            }
        stop = min(start + BATCH, count + 1)
        for seq in map(seq_of, range(start, stop)):
            ticket, said = rows.case(seq, count), list(rows.messages(seq))
            found["tickets"].append(ticket)
            found["messages"] += said
            found["notifications"] += rows.notifications(ticket, count)
            found["ticket_references"].append(rows.reference(seq))
            found["ticket_tags"] += [{"tag": tag, "seq": seq} for tag in rows.tags(seq)]
            found["case_clocks"] += rows.clocks_of(seq)
            found["case_links"] += rows.links(seq, count)
            found["case_results"] += rows.result(ticket)
            found["search_documents"] += [
                {"id": id_, "internal": False, "words": words} for id_, words in rows.documents(ticket, said)
            ]
        yield stop - 1, {table: values for table, values in found.items() if values}


def _load_sqlite(path: str, count: int, progress: Progress, seq_of: Callable[[int], int]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=OFF")
        db.create_function("words_match", 2, lambda *_: None)
        left_out = db.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type IN ('trigger', 'index')"
            " AND tbl_name IN ('tickets', 'messages', 'search_documents', 'ticket_references', 'case_clocks')"
        ).fetchall()
        for kind, name, _ in left_out:
            db.execute(f"DROP {kind} {name}")
        for done, tables in _batches(count, seq_of):
            db.execute("BEGIN")
            for table, values in tables.items():
                columns = list(values[0])
                marks = ", ".join("?" * len(columns))
                insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - our own names
                db.executemany(insert, ([_sqlite_value(row[name]) for name in columns] for row in values))
            db.execute("COMMIT")
            progress("cases", done, count)
        for number, (_, name, sql) in enumerate(left_out, 1):
            progress(f"index {name}", number, len(left_out))
            db.execute(sql)
        progress("search index", 0, 1)
        db.execute("INSERT INTO ticket_search(ticket_search) VALUES ('rebuild')")
        db.execute("DELETE FROM case_counts")
        for count_of in COUNTS:
            db.execute(count_of)
        db.execute("ANALYZE")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _sqlite_value(value: object) -> Any:
    return value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else value


async def _load_postgresql(
    url: str, count: int, progress: Progress, seq_of: Callable[[int], int], *, analyze: bool
) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("SET session_replication_role = replica")  # no triggers, no checks of foreign keys
    await connection.execute("SET maintenance_work_mem = '512MB'")
    left_out = await connection.fetch(
        "SELECT indexname AS name, indexdef AS sql FROM pg_indexes WHERE tablename IN "
        "('tickets', 'messages', 'search_documents', 'ticket_references', 'case_clocks') AND indexname LIKE 'ix\\_%'"
    )
    for index in left_out:
        await connection.execute(f"DROP INDEX {index['name']}")
    for done, tables in _batches(count, seq_of):
        for table, values in tables.items():
            await connection.copy_to_table(
                table, source=_copy_lines(table, values), columns=list(values[0]), format="text"
            )
        progress("cases", done, count)
    for number, index in enumerate(left_out, 1):
        progress(f"index {index['name']}", number, len(left_out))
        await connection.execute(index["sql"])
    for table in ("tickets", "messages", "sla_policies"):
        await connection.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'seq'), (SELECT max(seq) FROM {table}))"  # noqa: S608 - our own names
        )
    for count_of in COUNTS:
        await connection.execute(count_of)
    if analyze:
        await connection.execute("VACUUM ANALYZE")
    await connection.close()


async def _copy_lines(table: str, values: list[dict[str, Any]]) -> AsyncIterator[bytes]:
    if table == "search_documents":
        values = [{**row, "words": _vector(row["id"] >> 20, row["words"])} for row in values]
    yield "".join(
        "\t".join("\\N" if value is None else str(value) for value in row.values()) + "\n" for row in values
    ).encode()


def _vector(seq: int, words: str) -> str:
    """Return words as the database's function `search_vector` does."""
    placed = " ".join(f"{word}:{place}" for place, word in enumerate(words.split(), 1))
    return f"{placed} r14_{seq >> 14} r17_{seq >> 17}"
