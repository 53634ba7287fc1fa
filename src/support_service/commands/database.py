"""The `support-service migrate`, `database waits` and `database copy` commands."""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from support_service.commands import grammar
from support_service.commands.output import print_table, show_progress
from support_service.commands.runtime import (
    NEWER_DATABASE_MESSAGE,
    cli_principal,
    load_settings,
    run_coroutine,
    run_on_database,
)
from support_service.core.errors import problem

if TYPE_CHECKING:
    from support_service.platform.audit.verify import ChainVerification
    from support_service.platform.database import Database
    from support_service.platform.database.copying import TableComparison
    from support_service.platform.database.postgres.waits import Session, WaitingCommits
    from support_service.platform.settings.resources import DatabaseSettings

DATABASE_VARIABLE = re.compile("SUPPORT_DATABASE_(?!PASSWORD)")
DIFFERENT_STATUS = 1  # exit status if a copy differs from its source
SHOWN_HASH_LENGTH = 16  # digits of a hash that a terminal shows
MAX_SHOWN_QUERY_LENGTH = 100  # characters of a statement that are shown
NO_SESSIONS_ON_SQLITE = """\
SQLite has no sessions: one process writes at a time, and the others wait for up to 10 s.
If changes are `database_busy`, another process writes to {path}. To find the processes that have it open:
  fuser -v {path}"""
HIDDEN_SESSIONS = """\
`hidden`: {user} may not see the sessions of other users. Who holds a lock is known in any case. To see more, as a
superuser: GRANT pg_read_all_stats TO {user};"""
COMMITS_WAIT = """\
{number} commits wait for a synchronous standby, the first for {seconds:.0f} s. To see the standbys that are connected:
  SELECT application_name, state, sync_state FROM pg_stat_replication;"""
WAITS_EXAMPLES = """\
example:
  support-service database waits

On PostgreSQL it prints the sessions that hold locks and the sessions that wait for them, also of other programs and
users. Each has the age of its transaction, its `application_name` and its last statement. A replica of the service is
named `support-service`. States, ages and statements of other users are visible to members of `pg_read_all_stats`
only, and `hidden` to others. Literals in them may be personal data. Sessions that wait are never proposed to be ended.
The command changes nothing.
"""

COPY_EXAMPLES = """\
examples:
  support-service database copy sqlite:///var/support.db postgresql://support@db-1/support
  support-service database copy sqlite:///var/support.db

Stop the service before. FROM must have the newest schema, and no other program may have it open: it is locked until
the end. TO must have the newest schema, and no rows. Without TO it is the database that the variables name. Give no
password in an argument, because other users of this machine see it: SUPPORT_DATABASE_PASSWORD_FILE or PGPASSFILE names
its file. Files of cases stay where they are: the service on TO needs the same storage.

A copy that was interrupted continues with the same command. At the end both databases are compared, table by table:
numbers of rows, a hash of all rows, and the chain of the audit log. Before that no service starts on TO.
Exit status: 0 if both have the same rows, 1 if they differ, 2 if the copy was refused or failed.
"""


def add_to(commands: grammar.Subcommands) -> None:
    """Add `migrate` and `database` to the commands."""
    migrating = commands.add("migrate", "migrate the database to the newest schema", migrate)
    migrating.add_argument(
        "--wait",
        type=grammar.seconds,
        default=600.0,
        metavar="DURATION",
        help="how long to wait while another process migrates (default: 10m)",
    )
    database = commands.group(
        "database", "find out what the database is busy with, or copy it", "ACTION", epilog=WAITS_EXAMPLES
    )
    what = "show which sessions hold locks that others wait for, and how many commits wait for a standby"
    database.add("waits", what, print_waits, epilog=WAITS_EXAMPLES)
    copying = database.add(
        "copy", "copy a SQLite database into an empty PostgreSQL database", copy_database, epilog=COPY_EXAMPLES
    )
    copying.add_argument("source", metavar="FROM", help="URL of the SQLite database, sqlite:///PATH")
    copying.add_argument(
        "target", metavar="TO", nargs="?", help="URL of the PostgreSQL database (default: that of the service)"
    )


def migrate(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Migrate the database to the newest schema."""
    from support_service.platform.database import MigrationTimings
    from support_service.platform.database.migrate import upgrade

    settings = load_settings(environ)
    for line in settings.warnings:  # before the database is opened: one of them may be the reason why it is refused
        print(f"support-service: {line}", file=sys.stderr)
    if upgrade(settings.database.url, timings=MigrationTimings(max_wait=arguments.wait)) == "newer":
        # Exit with 0: in Kubernetes `migrate` runs before each start, and a failure would keep an older release from
        # starting.
        print(f"{NEWER_DATABASE_MESSAGE}: nothing was changed.")
    else:
        print("The database has the newest schema.")


def print_waits(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print the sessions of PostgreSQL that hold locks, the sessions that wait, and how to end one.

    Also the number of commits that wait for a synchronous standby.
    """
    from support_service.platform.database.postgres.waits import read_sessions, read_user, read_waiting_commits

    async def read(database: "Database") -> "tuple[WaitingCommits, list[Session], str]":
        return await read_waiting_commits(database), await read_sessions(database), await read_user(database)

    settings = load_settings(environ)
    if settings.database.url.startswith("sqlite:"):
        print(NO_SESSIONS_ON_SQLITE.format(path=settings.database.url.removeprefix("sqlite:///")))
        return
    commits, sessions, user = run_on_database(settings, read)
    if commits.number:
        print(COMMITS_WAIT.format(number=commits.number, seconds=commits.seconds))
    _print_sessions(sessions)
    if any(session.is_hidden for session in sessions):
        print(HIDDEN_SESSIONS.format(user=user))


def _print_sessions(sessions: "Sequence[Session]") -> None:
    from support_service.platform.database.postgres.waits import blockers

    waiting = [session for session in sessions if session.blocked_by]
    if not waiting:
        print("No session waits for a lock.")
        return
    holding = blockers(sessions)
    print("Sessions that hold locks, and how many wait for them or behind them:")
    print_table(
        [
            ("PID", "WAITING", "APPLICATION", "USER", "STATE", "TRANSACTION", "LAST STATEMENT"),
            *(
                (
                    "-" if each.is_prepared else str(each.pid),
                    str(number),
                    each.application or "-",
                    each.user or "-",
                    each.state,
                    "hidden" if each.transaction is None else f"{each.transaction:.0f} s",
                    _shown_statement(each),
                )
                for each, number in holding
            ),
        ]
    )
    print("\nSessions that wait:")
    print_table(
        [
            ("PID", "WAITS FOR PID", "SINCE", "LOCK", "APPLICATION", "STATEMENT"),
            *(
                (
                    str(each.pid),
                    ", ".join(map(str, sorted(set(each.blocked_by)))),
                    f"{each.seconds:.0f} s",
                    each.lock or "-",
                    each.application or "-",
                    _shown_statement(each),
                )
                for each in waiting
            ),
        ]
    )
    print()
    for each, _ in holding:
        print(_how_to_end(each))
    if not holding:
        print("These sessions wait for each other: PostgreSQL ends one of them after deadlock_timeout.")


def _shown_statement(session: "Session") -> str:
    return "hidden" if session.is_hidden else session.query[:MAX_SHOWN_QUERY_LENGTH] or "-"


def _how_to_end(session: "Session") -> str:
    """Return what ends the transaction of a session that holds a lock, and who may do it."""
    allowed = f"as {session.user or 'its user'} or a superuser"
    if session.is_prepared:
        identifier = session.query.replace("'", "''")
        return (
            f"To end the prepared transaction, {allowed}, in the database {session.database}, if the program that "
            f"prepared it will not: ROLLBACK PREPARED '{identifier}';"
        )
    if session.commits:
        return f"Do not end session {session.pid}: its commit waits for a synchronous standby."
    return (
        f"To end session {session.pid} and roll back its transaction, {allowed}: "
        f"SELECT pg_terminate_backend({session.pid});"
    )


def copy_database(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Copy a SQLite database into an empty PostgreSQL database, compare both, and print the comparison.

    Exit with status 1 if they differ. Raises SupportError for URLs of other databases.
    """
    if arguments.target is not None:  # the variables of a password still apply
        environ = {name: value for name, value in environ.items() if DATABASE_VARIABLE.match(name) is None}
        environ |= {"SUPPORT_DATABASE_URL": arguments.target}
    settings = load_settings(environ).database
    if not (arguments.source.startswith("sqlite:///") and settings.url.startswith("postgresql:")):
        raise problem(
            "wrong_arguments",
            "A copy goes from sqlite:///PATH to postgresql://USER@HOST/DATABASE. Between two PostgreSQL databases use "
            "pg_dump and pg_restore; there is no way back to SQLite",
        )
    if not run_coroutine(_copy_and_compare(arguments.source, settings)):
        sys.exit(DIFFERENT_STATUS)


async def _copy_and_compare(source_url: str, settings: "DatabaseSettings") -> bool:
    """Copy, compare and print; return whether both databases have the same rows."""
    from support_service.core.clock import utc_now
    from support_service.platform.audit.log import record
    from support_service.platform.audit.verify import verify_chain
    from support_service.platform.database import copying
    from support_service.platform.database.shared import open_database
    from support_service.platform.unit_of_work import WriteOrigin, unit_of_work

    with copying.open_source(source_url) as source:
        async with copying.open_target(settings.url) as target:
            copy = copying.DatabaseCopy(source, target)
            copied, total = await copy.begin(), source.count_rows()
            with show_progress("copy", total, " rows") as bar:
                bar.advance(copied)
                await copy.copy_rows(bar.advance)
            with show_progress("compare", 2 * total, " rows") as bar:
                tables = [each async for each in copy.compare(bar.advance)]
        async with open_database(settings, pool_size=1) as database:
            chains = await verify_chain(source.reader), await verify_chain(database)
            is_equal = all(each.is_equal for each in tables) and chains[0] == chains[1]
            if is_equal:
                async with unit_of_work(database, WriteOrigin(cli_principal())) as work:
                    rows = sum(each.target.rows for each in tables)
                    await record(work, None, "database.copied", utc_now(), {"rows": (None, rows)})
                    await copying.end_copy(work.tx)
    _print_comparison(tables, *chains, is_equal=is_equal, found=copied)
    return is_equal


def _print_comparison(
    tables: "Sequence[TableComparison]",
    source_chain: "ChainVerification",
    target_chain: "ChainVerification",
    *,
    is_equal: bool,
    found: int,
) -> None:
    if not sys.stdout.isatty():
        for each in tables:
            sides = {"source": each.source, "target": each.target}
            contents = {name: {"rows": content.rows, "hash": content.hash} for name, content in sides.items()}
            print(json.dumps({"table": each.table, "equal": each.is_equal, **contents}))
        chains = {"source": source_chain, "target": target_chain}
        heads = {
            name: {"entries": chain.head.position, "head": chain.head.hash.hex(), "flaw": chain.flaw}
            for name, chain in chains.items()
        }
        print(json.dumps({"summary": True, "equal": is_equal, "found": found, "audit": heads}))
        return
    print_table(
        [
            ("TABLE", "ROWS", "HASH", "ROWS OF THE COPY", "HASH OF THE COPY", ""),
            *(
                (
                    each.table,
                    *(str(each.source.rows), each.source.hash[:SHOWN_HASH_LENGTH]),
                    *(str(each.target.rows), each.target.hash[:SHOWN_HASH_LENGTH]),
                    "equal" if each.is_equal else "DIFFERENT",
                )
                for each in tables
            ),
        ]
    )
    for name, chain in (("source", source_chain), ("copy", target_chain)):
        state = f"broken: {chain.flaw}" if chain.flaw else "intact"
        print(f"Audit log of the {name}: {chain.head.position} entries, head {chain.head.hash.hex()}, {state}")
    if is_equal:
        print("Both databases have the same rows. The service may start on the copy.")
    else:
        print("The databases differ. Recreate the target, migrate it, and copy again.")
