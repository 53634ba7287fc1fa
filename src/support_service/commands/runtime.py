"""What commands run on: the event loop, their principal in the audit log, the database, and the maintenance jobs."""

import argparse
import os
import pwd
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from support_service.commands.grammar import CommandFunction
from support_service.core import interrupts
from support_service.core.domain.principals import Principal
from support_service.core.errors import Unavailable, problem

if TYPE_CHECKING:
    from support_service.attachments.maintenance.jobs import AttachmentMaintenance
    from support_service.platform.database import Database
    from support_service.platform.settings import Settings

MIGRATIONS_MISSING_MESSAGE = (
    "The database at SUPPORT_DATABASE_URL lacks migrations: run `support-service migrate` first"
)
NEWER_DATABASE_MESSAGE = "The database is newer than this release"
Result = TypeVar("Result")


def run_coroutine(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine on uvloop and return its result.

    The first Ctrl-C cancels the coroutine and raises KeyboardInterrupt once it has ended; the second exits at once. The
    coroutine may also handle SIGINT itself.
    """
    import asyncio

    import uvloop

    interrupted = False

    async def cancellable() -> Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def cancel() -> None:
            nonlocal interrupted
            interrupted = True
            if task is not None:  # pragma: no branch - a coroutine always runs in a task
                loop.call_soon_threadsafe(task.cancel)

        with interrupts.on_first_interrupt(cancel):
            return await main

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(cancellable())
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise


def cli_principal() -> Principal:
    """Return the Unix account as a caller with the role supervisor. An account without a name is named by its uid."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = str(number)
    return Principal(f"operator {name}", "supervisor")


def load_settings(environ: Mapping[str, str]) -> "Settings":
    """Return the settings. Raises UserError if a variable has a wrong value."""
    from support_service.platform.settings import Settings

    return Settings.load(environ)


def load_migrated_settings(environ: Mapping[str, str]) -> "Settings":
    """Return the settings for a command that needs every migration, and configure logging."""
    settings = load_settings_and_log(environ)
    check_migrated(settings.database.url)
    return settings


def load_settings_and_log(environ: Mapping[str, str]) -> "Settings":
    """Return the settings, and configure logging. Raises SupportError if the SQLite file does not exist."""
    from support_service.platform.telemetry import logs

    settings = load_settings(environ)
    logs.configure_logging(settings.server.log_level)
    _check_database_exists(settings.database.url)
    return settings


def check_migrated(url: str) -> None:
    """Raise UserError if migrations are missing. Must not be called in the thread of a running event loop."""
    from support_service.core.errors import UserError
    from support_service.platform.database import migrate

    if migrate.read_schema_status(url) == "older":
        raise UserError(MIGRATIONS_MISSING_MESSAGE)


def with_settings(
    main: "Callable[[Settings, argparse.Namespace], Coroutine[Any, Any, int | None]]", *, migrated: bool = False
) -> CommandFunction:
    """Return the function of a command that runs a coroutine; its result is the exit status, None for 0.

    With `migrated` the settings come from `load_migrated_settings`.
    """

    def run_main(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
        settings = load_migrated_settings(environ) if migrated else load_settings(environ)
        sys.exit(run_coroutine(main(settings, arguments)))

    return run_main


def run_on_database(
    settings: "Settings",
    work: "Callable[[Database], Awaitable[Result]]",
    around: "Callable[[Callable[[], Coroutine[Any, Any, Result]]], Coroutine[Any, Any, Result]] | None" = None,
) -> Result:
    """Open the database, run `work` on it and return the result; `around` is given a function that does so.

    Raises SupportError with a one-line reason if the database is missing, lacks migrations or can't be used.
    """
    import sqlalchemy as sa

    from support_service.platform.database import migrate
    from support_service.platform.database.failures import (
        DATABASE_FILE_CHANGED,
        StatementError,
        unusable_database_error,
    )
    from support_service.platform.database.shared import open_database

    url = settings.database.url
    _check_database_exists(url)

    async def on_database() -> Result:
        async with open_database(settings.database, pool_size=1) as database:
            return await work(database)

    try:
        return run_coroutine(around(on_database) if around else on_database())
    except (Unavailable, StatementError, sa.exc.DBAPIError) as failure:
        if isinstance(failure.__cause__, OSError):  # not reached, so its schema can't be read either
            raise unusable_database_error(failure.__cause__, url) from failure
        if isinstance(failure, Unavailable) and failure.code == DATABASE_FILE_CHANGED:
            raise  # to read the version of a deleted file would create an empty one
        if migrate.read_schema_status(url) == "older":
            raise problem("database_not_migrated", MIGRATIONS_MISSING_MESSAGE) from failure
        raise unusable_database_error(failure, url) from failure


def _check_database_exists(url: str) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:") and not path.exists():  # opening a missing file would create an empty database
        raise problem(
            "database_missing",
            f"There is no database at {path}: check SUPPORT_DATABASE_URL, or run `support-service migrate`",
        )


@asynccontextmanager
async def open_maintenance(settings: "Settings") -> "AsyncIterator[AttachmentMaintenance]":
    """Open the database and the storages, and yield the jobs of attachments. Metrics are sent by OTLP if configured."""
    from support_service.attachments.maintenance.jobs import AttachmentMaintenance
    from support_service.attachments.storage import open_storages
    from support_service.platform.database.shared import open_database
    from support_service.platform.telemetry.instruments import Instruments
    from support_service.platform.telemetry.provider import Metrics, build_resource

    metrics = Metrics([name for name in settings.telemetry.metrics if name != "prometheus"], build_resource())
    try:
        async with open_database(settings.database, pool_size=4) as database, open_storages(settings) as storages:
            yield AttachmentMaintenance(database, storages, Instruments(metrics.meter), settings)
    finally:
        metrics.close()
