"""Failures of the database: the table of its error codes, and the errors that clients get.

`CODE_BY_SQLSTATE` and `CODE_BY_SQLITE_ERROR` are the only places that give an error of a database a problem code.
"""

import sqlite3
from collections.abc import Mapping

from support_service.core.database_url import hosts_of
from support_service.core.errors import SupportError, Unavailable, problem
from support_service.core.http import format_host
from support_service.core.os_errors import describe_os_error

COMMIT_NOT_REPLICATED = "commit_not_replicated"  # committed, and not confirmed by the standby that has to have it
DATABASE_UNAVAILABLE = "database_unavailable"
DATABASE_FILE_CHANGED = "database_file_changed"  # the file that is open has lost its name
DATABASE_BUSY = "database_busy"
DATABASE_SLOW = "database_slow"
DATABASE_POOL_EXHAUSTED = "database_pool_exhausted"
WRITES_WAITING = "writes_waiting"  # too many transactions of this process wait for one row
DATABASE_READ_ONLY = "database_read_only"
DATABASE_WITHOUT_PRIMARY = "database_without_primary"  # of several servers, or of one that the URL wants to be it
DATABASE_FULL = "database_full"
DATABASE_CONNECTIONS_EXHAUSTED = "database_connections_exhausted"

MESSAGE_BY_CODE: Mapping[str, str] = {
    COMMIT_NOT_REPLICATED: "The change may be lost: the standby that has to confirm it does not answer. Repeat the "
    "request with the same Idempotency-Key until it is confirmed",
    DATABASE_UNAVAILABLE: "The database can't answer now; try again",
    DATABASE_BUSY: "The database is busy: another session holds a lock; try again",
    DATABASE_SLOW: "A statement took too long and was cancelled; try again",
    DATABASE_POOL_EXHAUSTED: "All connections to the database are in use; try again in a moment.",
    DATABASE_READ_ONLY: "The database accepts no changes at the moment; try again",
    DATABASE_WITHOUT_PRIMARY: "No server of the database accepts changes now; try again",
    DATABASE_FULL: "The disk of the database is full; try again later",
    DATABASE_CONNECTIONS_EXHAUSTED: "The database accepts no more connections; try again in a moment.",
}

# The database answers nothing, or it can't be used.
UNAVAILABLE_CODES = frozenset({DATABASE_UNAVAILABLE, DATABASE_FILE_CHANGED, DATABASE_WITHOUT_PRIMARY})
# The database answers, and refuses or does not confirm changes, or refuses connections, whatever the data.
REFUSING_CODES = frozenset({DATABASE_READ_ONLY, DATABASE_FULL, DATABASE_CONNECTIONS_EXHAUSTED, COMMIT_NOT_REPLICATED})
# The database answers; a lock, a statement, or other transactions of this process take too long.
BUSY_CODES = frozenset({DATABASE_BUSY, DATABASE_SLOW, DATABASE_POOL_EXHAUSTED, WRITES_WAITING})
DATABASE_CODES = UNAVAILABLE_CODES | REFUSING_CODES | BUSY_CODES

CODE_BY_SQLSTATE: Mapping[str, str] = {
    "25006": DATABASE_READ_ONLY,  # read_only_sql_transaction
    "26000": DATABASE_UNAVAILABLE,  # invalid_sql_statement_name: a pooler keeps prepared statements no longer
    "40001": DATABASE_BUSY,  # serialization_failure
    "40P01": DATABASE_BUSY,  # deadlock_detected
    "42P05": DATABASE_UNAVAILABLE,  # duplicate_prepared_statement: likewise
    "53100": DATABASE_FULL,  # disk_full
    "53300": DATABASE_CONNECTIONS_EXHAUSTED,  # too_many_connections
    "55P03": DATABASE_BUSY,  # lock_not_available: lock_timeout
    "57014": DATABASE_SLOW,  # query_canceled: statement_timeout
}
# Classes of SQLSTATEs: connection exception, insufficient resources, operator intervention.
UNAVAILABLE_SQLSTATE_CLASSES = ("08", "53", "57")

UNUSABLE = "unusable"  # reason of an error whose text names the database, and says why it can't be used at all

CODE_BY_SQLITE_ERROR: Mapping[int, str] = {
    sqlite3.SQLITE_BUSY: DATABASE_BUSY,
    sqlite3.SQLITE_LOCKED: DATABASE_BUSY,
    sqlite3.SQLITE_READONLY: DATABASE_READ_ONLY,
    sqlite3.SQLITE_FULL: DATABASE_FULL,
}


class StatementError(Exception):
    """A statement that the database rejected; the text has the kind of error and its place, not the database's text.

    The database's text quotes values, such as the text of a message, and this exception's text is logged.
    """


def code_of_sqlstate(state: str | None) -> str | None:
    """Return the problem code of an error of PostgreSQL, or None if the statement itself is to blame."""
    if not state:
        return None
    code = CODE_BY_SQLSTATE.get(state)
    return DATABASE_UNAVAILABLE if code is None and state[:2] in UNAVAILABLE_SQLSTATE_CLASSES else code


def code_of_sqlite_error(failure: BaseException) -> str:
    """Return the problem code of an operational error of SQLite."""
    return CODE_BY_SQLITE_ERROR.get(
        sqlite_result_code(failure) & 0xFF, DATABASE_UNAVAILABLE
    )  # without the extension's bits


def sqlite_result_code(failure: BaseException) -> int:
    """Return SQLite's extended result code of an error; 0 for an error of another origin."""
    code: int = getattr(driver_exception(failure), "sqlite_errorcode", 0)
    return code


def driver_exception(failure: BaseException) -> BaseException:
    """Return the driver's exception, which SQLAlchemy may have wrapped."""
    return getattr(failure, "orig", None) or failure


def database_error(code: str, reason: str = "") -> SupportError:
    """Return the error of a code in MESSAGES."""
    return problem(code, MESSAGE_BY_CODE[code], reason=reason)


def invalid_url_error(failure: Exception) -> SupportError:
    """Return the error for a URL that the driver can't parse, without the driver's text: it may quote the password."""
    text = f"The URL in SUPPORT_DATABASE_URL can't be used: {type(failure).__name__}"
    return problem(DATABASE_UNAVAILABLE, text, reason=UNUSABLE)


def unusable_database_error(
    cause: BaseException | str, url: str | None = None, code: str | None = None, remedy: str = ""
) -> SupportError:
    """Return the error for a database that can't be reached or migrated, or whose schema version can't be read.

    With `url` it names the host or the file, but no user and no password. `remedy` is the end of the text.
    """
    cause = getattr(cause, "orig", None) or cause
    if isinstance(cause, SupportError) and cause.reason == UNUSABLE:
        return cause
    text = describe_os_error(cause) if isinstance(cause, OSError) else str(cause)
    reason = text.partition("\n")[0]  # later lines may quote a row
    where = "SUPPORT_DATABASE_URL" if url is None else f"{_location_without_credentials(url)} (SUPPORT_DATABASE_URL)"
    if code is None:
        code = cause.code if isinstance(cause, Unavailable) else code_of_sqlstate(getattr(cause, "sqlstate", None))
    text = f"The database at {where} can't be used: {reason}{remedy}"
    return problem(code or DATABASE_UNAVAILABLE, text, reason=UNUSABLE)


def _location_without_credentials(url: str) -> str:
    """Return the hosts and ports of a PostgreSQL database, or the path of a SQLite file."""
    if url.startswith("sqlite:"):
        return url.removeprefix("sqlite:///")
    return ", ".join(f"{format_host(host)}:{port}" if port else host for host, port in hosts_of(url))
