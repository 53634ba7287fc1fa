"""The database: one small seam that runs SQLAlchemy Core statements, and hides which engine does.

Stores take a `Reader` or a `Transaction` and don't know which database they talk to.
"""

from support_service.database.postgres import PostgresDatabase
from support_service.database.seam import Database, Parameters, Reader, Row, Transaction
from support_service.database.sqlite import SqliteDatabase

__all__ = ["Database", "Parameters", "Reader", "Row", "Transaction", "connect"]


def connect(url: str, *, synchronous: str = "NORMAL", pool_size: int = 10) -> Database:
    """The database behind a URL, not opened yet: `sqlite:///PATH` or `postgresql://…`."""
    if url.startswith("sqlite:"):
        return SqliteDatabase(url, synchronous=synchronous)
    return PostgresDatabase(url, pool_size=pool_size)
