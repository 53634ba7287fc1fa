"""The `support-service backup` and `restored` commands: a backup of SQLite, and what follows the restore of one."""

import argparse
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from support_service.commands import grammar
from support_service.commands.audit import verify_with_progress
from support_service.commands.events import open_redis_broker
from support_service.commands.output import print_summary, show_progress
from support_service.commands.runtime import (
    check_migrated,
    cli_principal,
    load_migrated_settings,
    load_settings_and_log,
    run_on_database,
)
from support_service.core.clock import utc_now
from support_service.core.errors import UserError

if TYPE_CHECKING:
    from support_service.cases.restore import Restore
    from support_service.platform.database import Database
    from support_service.platform.settings import Settings

POSTGRES_MESSAGE = (
    "`backup` copies a database of SQLite. PostgreSQL has `pg_dump --format=custom --file=support.dump DATABASE`, and "
    "pg_basebackup for a point in time"
)
BACKUP_EXAMPLES = """\
example:
  support-service backup backups/support-2026-05-12.db

The service may run. The copy is of the moment at which the command begins. It gets its name once SQLite's integrity
check, the number of rows, and the chain of the audit log are verified. Back up the files of attachments after it.
After a restore, run `support-service restored` before the service starts.
"""
RESTORED_EXAMPLES = """\
examples:
  support-service restored --dry-run
  support-service restored

Run it once after a restore, while no replica runs. Versions then count from a new base, so that no ETag from before is
valid. Applied inbound events that Redis keeps are read again, and each is applied unless the backup has it. Consumers
get an event support.database.restored.v1, and the audit log an entry. A second run does no harm.
"""
RUNNING_MESSAGE = "The database is in use by {users}: stop all replicas and commands first, and start them afterwards"
REREAD_MARGIN = timedelta(days=1)
DAMAGED_STATUS = 1  # exit status if the audit log of the backup is broken
Result = TypeVar("Result")


def add_to(commands: grammar.Subcommands) -> None:
    """Add these commands."""
    backup = commands.add(
        "backup", "back up a SQLite database that is in use, and verify the copy", back_up, epilog=BACKUP_EXAMPLES
    )
    backup.add_argument("file", type=Path, metavar="FILE", help="the new file; it must not exist")
    what = "tell the service, its clients and consumers that the database was restored from a backup"
    restored = commands.add("restored", what, begin_after_restore, epilog=RESTORED_EXAMPLES)
    restored.add_argument("--dry-run", action="store_true", help="change nothing, only print what would be done")


def back_up(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Back up the database of SQLite, verify the copy, and give it its name.

    Exit with status 1 if the chain of its audit log is broken. Raises UserError for another database, and for a copy
    that is refused. Raises SupportError if the file exists.
    """
    from support_service.core.errors import UserError
    from support_service.platform.database.sqlite import backup
    from support_service.platform.durable_files import NewFile

    settings, target = load_migrated_settings(environ), arguments.file
    if not settings.database.url.startswith("sqlite:"):
        raise UserError(POSTGRES_MESSAGE)
    source = Path(settings.database.url.removeprefix("sqlite:///"))
    with NewFile(target) as new:
        with show_progress("backup", source.stat().st_size) as bar:
            made = backup.back_up(source, new.part, bar.advance)
        copied = settings.database.model_copy(update={"url": f"sqlite:///{new.part}"})
        verdict, _ = run_on_database(settings.model_copy(update={"database": copied}), verify_with_progress)
        if verdict.flaw is None:
            new.finish()
        else:
            new.keep()
    print_summary(
        f"The audit log is broken, in the database too: {verdict.flaw}. The copy is {new.part}"
        if verdict.flaw
        else f"Backed up {made.rows['tickets']} cases in {made.size} bytes. Head of its audit log, to be kept "
        f"elsewhere: {verdict.head.hash.hex()}",
        file=str(new.part if verdict.flaw else target),
        bytes=made.size,
        rows=made.rows,
        auditEntries=verdict.head.position,
        auditHead=verdict.head.hash.hex(),
        flaw=verdict.flaw,
    )
    if verdict.flaw is not None:
        sys.exit(DAMAGED_STATUS)


def begin_after_restore(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Record a restore, and let what Redis has of the undone time be read again.

    Raises UserError if others use the database, and UserError if migrations are missing or a Redis can't be used.
    """
    from support_service.cases.restore import plan_restore, record_restore
    from support_service.platform.unit_of_work import WriteOrigin

    dry_run = arguments.dry_run
    settings = load_migrated_settings(environ) if dry_run else load_settings_and_log(environ)

    async def record(database: "Database") -> "tuple[Restore, dict[str, int]]":
        # Redis first: if it can't be reached, nothing has been done.
        found = await _prepare_redis(settings, dry_run=dry_run)
        if dry_run:
            return await plan_restore(database), found
        return await record_restore(database, WriteOrigin(cli_principal())), found

    around = None if dry_run else partial(_without_others, settings.database.url)
    restore, found = run_on_database(settings, record, around)
    would = "Would begin" if dry_run else "Began"
    print_summary(
        f"{would} the versions at {restore.version_base}. The backup ends at {restore.undone_after}. Inbound events to "
        f"read again: {found['inboundEvents']}, cached timelines to forget: {found['cachedTimelines']}.",
        dryRun=dry_run,
        undoneAfter=restore.undone_after and restore.undone_after.isoformat(),
        versionBase=restore.version_base,
        **found,
    )


async def _without_others(url: str, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run `work`, and return its result. Raises UserError if others use the database at the beginning.

    On PostgreSQL none migrates during the work; on SQLite only the beginning is checked. Raises UserError if
    migrations are missing once no process migrates.
    """
    import asyncio

    if url.startswith("sqlite:"):  # a process that migrates it is one of these
        from support_service.platform.database.sqlite.backup import is_in_use

        await asyncio.to_thread(check_migrated, url)
        if is_in_use(Path(url.removeprefix("sqlite:///"))):
            raise UserError(RUNNING_MESSAGE.format(users="another process"))
        return await work()
    from support_service.platform.database import MigrationTimings
    from support_service.platform.database.postgres.migrate import run_alone
    from support_service.platform.database.postgres.waits import count_service_sessions_at

    async def work_alone(_hosts: object) -> Result:
        await asyncio.to_thread(check_migrated, url)
        if number := await count_service_sessions_at(url):
            users = f"{number} other session{'s' if number > 1 else ''}"
            raise UserError(RUNNING_MESSAGE.format(users=users))
        return await work()

    return await run_alone(url, "restored", work_alone, MigrationTimings())


async def _prepare_redis(settings: "Settings", *, dry_run: bool) -> dict[str, int]:
    """Return how many inbound events are read again, and how many cached timelines are forgotten."""
    from support_service.core.errors import UserError
    from support_service.events.broker.base import RedisBrokerTimings
    from support_service.events.consumer import EVENT_ID_RETENTION

    found = {"inboundEvents": 0, "cachedTimelines": 0}
    if settings.events_redis_url is not None:
        from support_service.events.broker.redis_log import RedisLog

        since = utc_now() - EVENT_ID_RETENTION + REREAD_MARGIN  # the ids of older events may be gone
        async with open_redis_broker(settings) as (broker, inbound):
            found["inboundEvents"] = await broker.rewind(inbound, since, dry_run=dry_run)
            if not dry_run:
                log = RedisLog(settings.events_redis_url, settings.events.stream, 1.0, RedisBrokerTimings())
                async with aclosing(log.client):
                    await log.begin_epoch()
    if settings.timeline.redis_url is not None:
        from support_service.platform.redis import REDIS_FAILURES
        from support_service.timeline.redis_cache import RedisCache
        from support_service.timeline.snapshots import cache_key

        cache = RedisCache(settings.timeline.redis_url, RedisBrokerTimings().timeout)
        try:
            cached = await cache.find_keys(cache_key(""))
            found["cachedTimelines"] = len(cached)
            if not dry_run:
                await cache.delete_all(cached)
        except REDIS_FAILURES as fault:
            raise UserError(f"Redis at SUPPORT_REDIS_URL can't be used: {fault}") from fault
        finally:
            await cache.close()
    return found
