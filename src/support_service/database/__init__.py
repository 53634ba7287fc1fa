"""The database: one small seam that runs SQLAlchemy Core statements, and hides which engine does.

Stores take a `Reader` or a `Transaction` and don't know which database they talk to.
"""

from support_service.database.protocols import Database, Parameters, Reader, Row, Transaction
from support_service.telemetry.stores import Measure, unmeasured

__all__ = ["Database", "Parameters", "Reader", "Row", "Transaction", "connect"]


def connect(url: str, *, synchronous: str = "NORMAL", pool_size: int = 10, measure: Measure = unmeasured) -> Database:
    """The database behind a URL, not opened yet: `sqlite:///PATH` or `postgresql://…`.

    Imports the module of that database alone: PostgreSQL's driver and its part of SQLAlchemy take 0.1 s.
    """
    if url.startswith("sqlite:"):
        from support_service.database.sqlite import SqliteDatabase

        return SqliteDatabase(url, synchronous=synchronous, measure=measure)
    from support_service.database.postgres import PostgresDatabase

    return PostgresDatabase(url, pool_size=pool_size, measure=measure)
