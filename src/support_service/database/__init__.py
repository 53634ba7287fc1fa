"""The database: one small seam that runs SQLAlchemy Core statements, and hides which engine does.

Stores take a `Reader` or a `Transaction` and don't know which database they talk to.
"""

from support_service.database.postgres import PostgresDatabase
from support_service.database.seam import Database, Parameters, Reader, Row, Transaction
from support_service.database.sqlite import SqliteDatabase
from support_service.telemetry.stores import Measure, unmeasured

__all__ = ["Database", "Parameters", "Reader", "Row", "Transaction", "connect"]


def connect(url: str, *, synchronous: str = "NORMAL", pool_size: int = 10, measure: Measure = unmeasured) -> Database:
    """The database behind a URL, not opened yet: `sqlite:///PATH` or `postgresql://…`."""
    if url.startswith("sqlite:"):
        return SqliteDatabase(url, synchronous=synchronous, measure=measure)
    return PostgresDatabase(url, pool_size=pool_size, measure=measure)
