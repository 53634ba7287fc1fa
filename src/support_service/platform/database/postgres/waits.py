"""Sessions of PostgreSQL: those that wait for locks or for a standby, those that hold locks, and the service's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from support_service.platform.database import Reader
from support_service.platform.database.postgres.connection import SETTINGS_OF_POOLERS, Connection, Hosts

CONNECT_TIMEOUT = 10.0  # seconds
_COUNT_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1"
PREPARED_TRANSACTION = 0  # the process id that pg_blocking_pids gives for a prepared transaction


@dataclass(frozen=True, slots=True)
class Session:
    """A session: its state, the age of its transaction in seconds, and its present or last statement.

    PostgreSQL shows states and statements of other users only to members of `pg_read_all_stats`. `lock` names what a
    session waits for, and is empty if it does not wait; `seconds` is how long it has waited for it.
    """

    pid: int
    application: str
    user: str
    state: str
    transaction: float
    query: str
    lock: str
    seconds: float
    blocked_by: tuple[int, ...]


_SELECT_SESSIONS = sa.text("""
WITH sessions AS (
    SELECT pid, application_name, usename, state, xact_start, state_change, query_start, query, wait_event_type,
        CASE WHEN wait_event_type = 'Lock' THEN pg_blocking_pids(pid) ELSE '{}' END AS blocked_by
    FROM pg_stat_activity
    WHERE pid <> pg_backend_pid()
), involved AS (
    SELECT pid FROM sessions WHERE blocked_by <> '{}'
    UNION SELECT unnest(blocked_by) FROM sessions
)
SELECT involved.pid, coalesce(application_name, '') AS application, coalesce(usename, '') AS "user",
    CASE WHEN involved.pid = 0 THEN 'prepared transaction' ELSE coalesce(state, 'hidden') END AS state, blocked_by,
    coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0)::float AS transaction,
    coalesce(left(regexp_replace(query, '\\s+', ' ', 'g'), 200), '') AS query,
    coalesce(requested.lock, '') AS lock,
    coalesce(extract(epoch FROM clock_timestamp() - coalesce(requested.since, query_start)), 0)::float AS seconds
FROM involved
LEFT JOIN sessions USING (pid)
LEFT JOIN LATERAL (
    SELECT concat_ws(' on ', mode, coalesce(relation::regclass::text, locktype)) AS lock, waitstart AS since
    FROM pg_locks WHERE pg_locks.pid = involved.pid AND NOT granted LIMIT 1
) AS requested ON true
ORDER BY xact_start NULLS FIRST, involved.pid
""")


_SELECT_COMMITS = sa.text("""
SELECT count(*) AS number, coalesce(max(extract(epoch FROM clock_timestamp() - query_start)), 0)::float AS seconds
FROM pg_stat_activity WHERE wait_event = 'SyncRep'
""")


class WaitingCommits(NamedTuple):
    """The commits that wait for a synchronous standby, and for how many seconds the first has waited."""

    number: int
    seconds: float


async def read_waiting_commits(database: Reader) -> WaitingCommits:
    """Return the commits of all sessions of this user that wait for a standby. Raises Unavailable."""
    (row,) = await database.fetch_all(_SELECT_COMMITS)
    return WaitingCommits(row.number, row.seconds)


async def count_service_sessions(connection: Connection) -> int:
    """Return how many sessions replicas and commands of the service have in a database.

    Sessions with another name do not count, such as of `connection`. Raises the driver's errors.
    """
    number: int = await connection.fetchval(_COUNT_SESSIONS, SETTINGS_OF_POOLERS["application_name"])
    return number


async def count_service_sessions_at(url: str) -> int:
    """Return the same for the database at a URL."""
    connection = await Hosts(url, CONNECT_TIMEOUT).connect()
    try:
        return await count_service_sessions(connection)
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT)


async def read_sessions(database: Reader) -> list[Session]:
    """Return the sessions that wait for locks or hold them, the oldest transaction first.

    Sessions of all databases of the server, because a lock may be on what they share. Raises Unavailable.
    """
    return [
        Session(**(row._asdict() | {"blocked_by": tuple(row.blocked_by or ())}))
        for row in await database.fetch_all(_SELECT_SESSIONS)
    ]


def blockers(sessions: Iterable[Session]) -> list[tuple[Session, int]]:
    """Return the sessions that wait for none, each with the number of sessions that wait for it or behind it."""
    sessions = list(sessions)
    return [
        (session, len(_pids_waiting_behind(session.pid, sessions))) for session in sessions if not session.blocked_by
    ]


def _pids_waiting_behind(pid: int, sessions: Sequence[Session]) -> set[int]:
    found: set[int] = set()
    reached = [pid]
    while reached:
        blocker = reached.pop()
        for session in sessions:
            if blocker in session.blocked_by and session.pid not in found:
                found.add(session.pid)
                reached.append(session.pid)
    return found
