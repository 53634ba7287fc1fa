"""The `support-service database waits` command: who holds the locks that others wait for."""

import argparse
from collections.abc import Mapping, Sequence

from support_service.commands.runtime.database import run_on_database
from support_service.commands.runtime.tables import print_table
from support_service.platform.database.postgres.waits import PREPARED_TRANSACTION, Session, blockers, read_sessions
from support_service.platform.settings import Settings

QUERY_LENGTH = 100  # characters of a statement that are shown
ON_SQLITE = """\
SQLite has no sessions: one process writes at a time, and the others wait for up to 10 s.
If changes are `database_busy`, another process writes to {path}. To find those that have it open:
  fuser -v {path}"""


def waits(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print the sessions of PostgreSQL that hold locks, the sessions that wait, and how to end one."""
    settings = Settings.load(environ)
    if settings.database.url.startswith("sqlite:"):
        print(ON_SQLITE.format(path=settings.database.url.removeprefix("sqlite:///")))
        return
    _print(run_on_database(settings, read_sessions))


def _print(sessions: Sequence[Session]) -> None:
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
                    str(each.pid) if each.pid != PREPARED_TRANSACTION else "-",
                    str(number),
                    each.application or "-",
                    each.user or "-",
                    each.state,
                    f"{each.transaction:.0f} s",
                    each.query[:QUERY_LENGTH] or "-",
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
                    each.query[:QUERY_LENGTH] or "-",
                )
                for each in waiting
            ),
        ]
    )
    print()
    for each, _ in holding:
        if each.pid != PREPARED_TRANSACTION:
            print(f"To end session {each.pid} and roll back its transaction: SELECT pg_terminate_backend({each.pid});")
    if any(each.pid == PREPARED_TRANSACTION for each, _ in holding):
        print("A prepared transaction holds a lock: see pg_prepared_xacts, and end it with ROLLBACK PREPARED.")
    if not holding:
        print("These sessions wait for each other: PostgreSQL ends one of them after deadlock_timeout.")
