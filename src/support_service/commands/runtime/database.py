"""Database access for commands; errors are one line."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from support_service.commands.runtime.event_loop import run
from support_service.core.errors import Unavailable
from support_service.platform.database import Database, connect, migrate
from support_service.platform.database.failures import DATABASE_FILE_CHANGED, StatementError, unusable_database_error
from support_service.platform.settings import Settings, WrongSetting
from support_service.platform.telemetry import logs

MIGRATIONS_MISSING_MESSAGE = (
    "The database at SUPPORT_DATABASE_URL lacks migrations: run `support-service migrate` first"
)
NEWER_DATABASE_MESSAGE = "The database is newer than this release"
Result = TypeVar("Result")


def load_migrated_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings for a command that needs every migration, and configure logging.

    Raises Unavailable if the SQLite file does not exist, and WrongSetting if migrations are missing.
    """
    settings = Settings.load(environ)
    logs.configure(settings.server.log_level)
    _require_database(settings.database.url)
    if migrate.schema_status(settings.database.url) == "older":
        raise WrongSetting(MIGRATIONS_MISSING_MESSAGE)
    return settings


def run_on_database(settings: Settings, work: Callable[[Database], Awaitable[Result]]) -> Result:
    """Open the database, run `work` on it and return the result.

    Raises Unavailable with a one-line reason if the database is missing, lacks migrations or can't be used.
    """
    url = settings.database.url
    _require_database(url)

    async def on_database() -> Result:
        database = connect(url, synchronous=settings.database.synchronous, pool_size=1)
        try:
            await database.open()
            return await work(database)
        finally:
            await database.close()

    try:
        return run(on_database())
    except (Unavailable, StatementError, sa.exc.DBAPIError) as failure:
        if isinstance(failure.__cause__, OSError):  # not reached, so its schema can't be read either
            raise unusable_database_error(failure.__cause__, url) from failure
        if isinstance(failure, Unavailable) and failure.code == DATABASE_FILE_CHANGED:
            raise  # to read the version of a deleted file would create an empty one
        if migrate.schema_status(url) == "older":
            raise Unavailable("database_not_migrated", MIGRATIONS_MISSING_MESSAGE) from failure
        raise unusable_database_error(failure, url) from failure


def _require_database(url: str) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:") and not path.exists():  # opening a missing file would create an empty database
        raise Unavailable(
            "database_missing",
            f"There is no database at {path}: check SUPPORT_DATABASE_URL, or run `support-service migrate`",
        )
