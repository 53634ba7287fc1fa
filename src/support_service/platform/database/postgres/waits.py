"""Sessions of PostgreSQL: waiting for locks or for a standby, holding locks, and the service's own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from support_service.platform.database import RowReader
from support_service.platform.database.postgres.connection import SETTINGS_OF_POOLERS, Connection, Hosts

CONNECT_TIMEOUT = 10.0  # seconds
_COUNT_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1"
PREPARED_TRANSACTION = 0  # the process id that pg_blocking_pids gives for a prepared transaction


@dataclass(frozen=True, slots=True)
class Session:
    """A session, or a prepared transaction, which has none: its state, and the age of its transaction in seconds.

    PostgreSQL shows states, ages and statements of other users only to members of `pg_read_all_stats`: `transaction` is
    None where they are hidden. `lock` names what a session waits for, and is empty if it waits for none; `seconds` is
    how long it has waited for it. `commits` tells that its commit waits for a standby. `query` is the present or last
    statement; of a prepared transaction, its identifier.
    """

    pid: int
    application: str
    user: str
    database: str
    state: str
    transaction: float | None
    query: str
    lock: str
    seconds: float
    commits: bool
    blocked_by: tuple[int, ...]

    @property
    def is_prepared(self) -> bool:
        return self.pid == PREPARED_TRANSACTION

    @property
    def is_hidden(self) -> bool:
        """Whether this user may not see the state."""
        return self.transaction is None


# `pg_locks` and `pg_blocking_pids` show the locks of all users. The columns of `pg_stat_activity` that say whether a
# session waits are hidden from other users, who would take one that waits for the one that holds the lock. Those that
# block others are asked again, because they may have begun to wait meanwhile.
_SELECT_SESSIONS = sa.text("""
WITH waiting AS MATERIALIZED (
    SELECT pid, pg_blocking_pids(pid) AS blocked_by
    FROM (SELECT DISTINCT pid FROM pg_locks WHERE NOT granted) AS requests
), involved AS (
    SELECT pid, blocked_by FROM waiting WHERE blocked_by <> '{}'
    UNION ALL
    SELECT pid, pg_blocking_pids(pid) FROM (SELECT DISTINCT unnest(blocked_by) AS pid FROM waiting) AS holders
    WHERE pid NOT IN (SELECT pid FROM waiting WHERE blocked_by <> '{}')
), prepared AS (
    SELECT DISTINCT gid, owner, found.database, prepared
    FROM pg_prepared_xacts AS found
    JOIN pg_locks AS own ON own.pid IS NULL AND own.transactionid = found.transaction
    JOIN pg_locks AS held ON held.pid IS NULL AND held.virtualtransaction = own.virtualtransaction
    JOIN pg_locks AS wanted ON NOT wanted.granted AND held.locktype = wanted.locktype
        AND (held.database, held.relation, held.page, held.tuple, held.transactionid::text, held.classid, held.objid)
        IS NOT DISTINCT FROM (wanted.database, wanted.relation, wanted.page, wanted.tuple, wanted.transactionid::text,
            wanted.classid, wanted.objid)
)
SELECT involved.pid, coalesce(application_name, '') AS application,
    coalesce(usename, prepared.owner, '') AS "user", coalesce(datname, prepared.database, '') AS database,
    CASE WHEN involved.pid = 0 THEN 'prepared transaction' ELSE coalesce(state, 'hidden') END AS state, blocked_by,
    CASE WHEN involved.pid = 0 OR state IS NOT NULL
        THEN coalesce(extract(epoch FROM clock_timestamp() - coalesce(xact_start, prepared.prepared)), 0)
    END::float AS transaction,
    coalesce(prepared.gid, CASE WHEN state IS NOT NULL THEN left(regexp_replace(query, '\\s+', ' ', 'g'), 200) END, '')
        AS query,
    coalesce(requested.lock, '') AS lock,
    coalesce(extract(epoch FROM clock_timestamp() - coalesce(requested.since, query_start)), 0)::float AS seconds,
    coalesce(wait_event = 'SyncRep', false) AS commits
FROM involved
LEFT JOIN pg_stat_activity AS session ON session.pid = involved.pid
LEFT JOIN prepared ON involved.pid = 0
LEFT JOIN LATERAL (
    SELECT concat_ws(' on ', mode, coalesce(relation::regclass::text, locktype)) AS lock, waitstart AS since
    FROM pg_locks WHERE pg_locks.pid = involved.pid AND NOT granted LIMIT 1
) AS requested ON true
ORDER BY coalesce(xact_start, prepared.prepared) NULLS FIRST, involved.pid
""")


_SELECT_COMMITS = sa.text("""
SELECT count(*) AS number, coalesce(max(extract(epoch FROM clock_timestamp() - query_start)), 0)::float AS seconds
FROM pg_stat_activity WHERE wait_event = 'SyncRep'
""")


class WaitingCommits(NamedTuple):
    """The commits that wait for a synchronous standby, and for how many seconds the first has waited."""

    number: int
    seconds: float


async def read_waiting_commits(database: RowReader) -> WaitingCommits:
    """Return the commits of all sessions of this user that wait for a standby. Raises Unavailable."""
    (row,) = await database.fetch_all(_SELECT_COMMITS)
    return WaitingCommits(row.number, row.seconds)


async def read_user(database: RowReader) -> str:
    """Return the database's user of this service, quoted for a statement. Raises Unavailable."""
    (row,) = await database.fetch_all(sa.text("SELECT quote_ident(current_user) AS name"))
    return str(row.name)


async def count_service_sessions(connection: Connection) -> int:
    """Return how many sessions replicas and commands of the service have in a database.

    Sessions with another name do not count, such as of `connection`.
    """
    number: int = await connection.fetchval(_COUNT_SESSIONS, SETTINGS_OF_POOLERS["application_name"])
    return number


async def count_service_sessions_at(url: str) -> int:
    connection = await Hosts(url, CONNECT_TIMEOUT).connect()
    try:
        return await count_service_sessions(connection)
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT)


async def read_sessions(database: RowReader) -> list[Session]:
    """Return the sessions that wait for locks or hold them, the oldest transaction first.

    Sessions of all databases of the server, because a lock may be on what they share.
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
