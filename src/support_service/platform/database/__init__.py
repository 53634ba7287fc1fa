"""Database access: a small interface that runs SQLAlchemy Core statements on SQLite or PostgreSQL.

Stores take a `Reader` or a `Transaction` and do not depend on the database engine.
"""

from support_service.platform.database.protocols import (
    ContendedRow,
    Database,
    DatabaseTimings,
    Parameters,
    Reader,
    Row,
    Transaction,
)
from support_service.platform.telemetry.stores import RecordOperation, discard_operation

__all__ = ["ContendedRow", "Database", "Parameters", "Reader", "Row", "Transaction", "connect"]


def connect(
    url: str,
    *,
    synchronous: str = "NORMAL",
    pool_size: int = 10,
    measure: RecordOperation = discard_operation,
    timings: DatabaseTimings = DatabaseTimings(),
) -> Database:
    """Return the database for a URL, `sqlite:///PATH` or `postgresql://…`, without opening it.

    Imports only that database's module: PostgreSQL's driver and SQLAlchemy dialect take 0.1 s to import.
    """
    if url.startswith("sqlite:"):
        from support_service.platform.database.sqlite.engine import SqliteDatabase

        return SqliteDatabase(url, synchronous=synchronous, measure=measure, timings=timings.sqlite)
    from support_service.platform.database.postgres.engine import PostgresDatabase

    return PostgresDatabase(url, pool_size=pool_size, measure=measure, timings=timings.postgres)
