"""Measure the rows and bytes of a case on PostgreSQL.

The service stores cases with four messages each; then the sizes of the tables and of their indexes are read.
"""

import argparse
import json
import math
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import uvloop
from tests.support.servers import PostgresServer

from benchmarks import scenarios
from benchmarks.databases import postgres_cluster
from benchmarks.environment import ROOT, free_port, running
from benchmarks.load_generator import Client, Request
from support_service.platform.database import migrate

CONNECTIONS = 16
FOLLOW_UPS = 3  # messages after the first one
MESSAGE_WORDS = (15, 90)  # the fewest and the most words of a message
VOCABULARY = 5000
SIZES = """
SELECT json_agg(t ORDER BY t.heap + t.indexes DESC) FROM (
  SELECT c.relname AS name, c.reltuples AS rows, pg_table_size(c.oid) AS heap, pg_indexes_size(c.oid) AS indexes
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND n.nspname = 'public' AND c.reltuples > 0
) t
"""


def main() -> int:
    """Run the measurement and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.row_sizes", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="number of cases (default: %(default)s)")
    arguments = parser.parse_args()
    with postgres_cluster({}) as postgres:
        database = postgres.create_database()
        url = postgres.url(database)
        migrate.upgrade(url)
        _store(url, arguments.cases)
        postgres.run("VACUUM ANALYZE", database)
        print(_table(postgres, database, arguments.cases))
    return 0


def _store(url: str, cases: int) -> None:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        settings = {
            "PYTHONPATH": str(ROOT / "src"),
            "SUPPORT_PORT": str(port),
            "SUPPORT_DATABASE_URL": url,
            "SUPPORT_ATTACHMENT_DIR": str(Path(name) / "attachments"),
            "SUPPORT_LOG_LEVEL": "warning",
        }
        serve = [sys.executable, "-m", "support_service", "serve"]
        with running("service", port, serve, cwd=Path(name), env=settings, log=Path(name) / "service.log"):
            uvloop.run(_send(port, cases))


async def _send(port: int, cases: int) -> None:
    text = Text(random.Random(1))
    async with Client(port, CONNECTIONS) as client:
        opened = await client.bodies(_openings(text, cases))
        await client.bodies(_follow_ups(text, [json.loads(body)["id"] for body in opened]))


def _openings(text: "Text", cases: int) -> Iterator[Request]:
    for number in range(cases):
        case = {
            "subject": text.words(4, 9),
            "description": text.words(*MESSAGE_WORDS),
            "customerId": f"customer-{number // 3}",
            "channel": "email",
            "context": [
                {"type": "order", "orderId": 100_000 + number},
                {"type": "payment", "paymentId": 500_000 + number},
                {"type": "shipment", "shipmentId": 300_000 + number},
            ],
            "initialMessage": {"authorType": "customer", "message": text.words(*MESSAGE_WORDS)},
        }
        yield scenarios.plain("POST", scenarios.CASES, json.dumps(case).encode())


def _follow_ups(text: "Text", cases: list[str]) -> Iterator[Request]:
    for number in range(FOLLOW_UPS):
        author = "customer" if number % 2 else "agent"
        for case in cases:
            message = {"authorType": author, "message": text.words(*MESSAGE_WORDS)}
            yield scenarios.plain("POST", f"{scenarios.CASES}/{case}/messages", json.dumps(message).encode())


class Text:
    """Sentences of invented words, some of which are common and most rare, as in a language."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        letters = "etaoinshrdlu"
        self._vocabulary = ["".join(source.choices(letters, k=source.randint(2, 9))) for _ in range(VOCABULARY)]

    def words(self, fewest: int, most: int) -> str:
        """Return a text of a random number of words."""
        count = self._source.randint(fewest, most)
        ranks = (int(math.exp(self._source.random() * math.log(VOCABULARY))) for _ in range(count))
        return " ".join(self._vocabulary[rank % VOCABULARY] for rank in ranks)


def _table(postgres: PostgresServer, database: str, cases: int) -> str:
    lines = [
        "| table | rows per case | bytes of rows per case | bytes of indexes per case |",
        "| --- | --- | --- | --- |",
    ]
    tables = json.loads(postgres.run(SIZES, database))
    total = {key: sum(table[key] for table in tables) for key in ("rows", "heap", "indexes")}
    for table in [*tables, {"name": "all", **total}]:
        rows, heap, indexes = (table[key] / cases for key in ("rows", "heap", "indexes"))
        lines.append(f"| {table['name']} | {rows:.2f} | {heap:,.0f} | {indexes:,.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
