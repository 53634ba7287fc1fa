"""What the service sends to its database for each measured request, recorded while it answers each of them.

The floor (floor.py) repeats it, so that its SQL is the service's own, whatever that becomes.
"""

import json
import re
import sqlite3
import sqlite3.dbapi2
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple, Self
from unittest import mock

from asyncpg.protocol import Protocol

from benchmarks import scenarios
from benchmarks.load_generator import Client
from support_service.app import build_app
from support_service.core.ids import new_id
from support_service.platform.settings import Settings
from support_service.server import open_server

ATTEMPTS = 3  # a background job may share a transaction with a request: the shortest of them has the request alone
CONCURRENT = 8  # requests on PostgreSQL, where requests that wait together share a statement
READS = ("get", "timeline_cached")
VERSION_READ = 3  # of the case that is read: it was opened, and got a message and a file
CONTROL = re.compile(r"\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b", re.IGNORECASE)
# The condition that a row is still what a request has read.
ROW_VERSION = re.compile(r"\w+\.xmin = (\$[0-9]+::XID|given\.p[0-9]+)")
PRAGMA = re.compile(r"PRAGMA \w+=")
UNIQUE_TEXT = re.compile(
    r"(?P<key>\b[0-9a-f]{2}/[0-9a-f]{32}\b)|(?P<digest>\b[0-9a-f]{64}\b)"
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{32}\b"
)

Unique = Mapping[str, Any]  # what differs between two requests, by name: `case`, and the names that a recording has
ValueOf = Callable[[Unique], Any]


class Sent(NamedTuple):
    """A statement as a driver gets it, with its sets of values: several if it `is_many`."""

    connection: object
    sql: str
    sets: Sequence[Sequence[Any]]
    is_many: bool = False

    @property
    def is_shared(self) -> bool:
        """Whether all its values are arrays, with the values of several requests."""
        return any(self.sets) and all(isinstance(value, list) for value in self.sets[0])

    def part_of(self, case_id: str, case_ids: Collection[str]) -> "Sent":
        """Return the part of a shared statement that is about one of the cases."""
        if not self.is_shared:
            return self
        [values] = self.sets
        cases = next(value for value in values if set(case_ids).issuperset(value) and len(set(value)) == len(value))
        number, place = len(cases), cases.index(case_id)
        lengths = [len(value) // number for value in values]
        parts = [value[place * length :][:length] for value, length in zip(values, lengths, strict=True)]
        return self._replace(sets=[parts])


class Statement:
    """A statement of a request. Texts and lists of it that differ between requests are filled in for each."""

    def __init__(self, sent: Sent, value_of: Callable[[Any], ValueOf | None]) -> None:
        self.sql = ROW_VERSION.sub(r"\1 IS NOT NULL", sent.sql)  # it was true
        self.is_many = sent.is_many
        self.is_control = CONTROL.match(sent.sql) is not None
        self.is_shared = sent.is_shared  # its values are arrays, and those of other requests may follow in them
        self._sets = [
            (list(values), [(place, found) for place, value in enumerate(values) if (found := value_of(value))])
            for values in sent.sets
        ]

    def sets(self, unique: Unique) -> list[list[Any]]:
        """Return the sets of values for one request."""
        filled = []
        for values, changing in self._sets:
            copy = values.copy()
            for place, value_of in changing:
                copy[place] = value_of(unique)
            filled.append(copy)
        return filled


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request: its transactions and single statements, its answer, and the names of the ids that are new in it."""

    units: list[list[Statement]]
    answer: ValueOf
    new_ids: list[str]

    @property
    def cost(self) -> tuple[bool, int]:
        """What tells the best of several recordings: whether it shares no statement, and its number of statements."""
        statements = [statement for unit in self.units for statement in unit]
        return not any(statement.is_shared for statement in statements), len(statements)

    def unique(self, case_id: str) -> dict[str, Any]:
        """Return what differs in one more request: the id of its case, and new ids."""
        return {"case": case_id} | {name: new_id() for name in self.new_ids}


class Recording(NamedTuple):
    """The recorded requests by the names of their scenarios, and the settings of SQLite's connections."""

    requests: dict[str, RecordedRequest]
    pragmas: list[str]


async def record(settings: Settings) -> Recording:
    """Start the service, send it the requests, and return what it has sent to its database."""
    found: dict[str, list[RecordedRequest]] = {}
    sent: list[Sent] = []
    number = 1 if settings.database.url.startswith("sqlite:") else CONCURRENT
    with _noting(sent):
        app, guard = build_app(settings)
        async with (
            open_server(app, settings.server, guard=guard) as url,
            Client(int(url.rpartition(":")[2]), number) as client,
        ):
            for _ in range(ATTEMPTS):
                cases = [""] * number
                for name in ("create", "message", "upload", *READS):
                    requests = [scenarios.ALL[name].request(case_id, 0) for case_id in cases]
                    if name in READS:
                        await client.bodies(requests)  # the first read of a version differs from later reads
                    first = len(sent)
                    answers = [body.decode() for body in await client.bodies(requests)]
                    if name == "create":
                        cases = [json.loads(answer)["id"] for answer in answers]
                    for case_id in cases:
                        [answer] = [answer for answer in answers if case_id in answer]
                        of_case = _units_of_case(sent[first:], case_id, cases)
                        recorded = _recorded(of_case, answer, case_id, VERSION_READ if name in READS else None)
                        found.setdefault(name, []).append(recorded)
    best = {name: min(each, key=lambda recorded: recorded.cost) for name, each in found.items()}
    return Recording(best, [*dict.fromkeys(each.sql for each in sent if PRAGMA.match(each.sql))])


def _units_of_case(sent: Sequence[Sent], case_id: str, case_ids: Collection[str]) -> list[list[Sent]]:
    """Return the transactions and the single statements about a case."""
    units = [unit for unit in _units(sent) if any(case_id in repr(each.sets) for each in unit)]
    return [[each.part_of(case_id, case_ids) for each in unit] for unit in units]


def _recorded(units: list[list[Sent]], answer: str, case_id: str, version: int | None) -> RecordedRequest:
    """Return a request about a case. `version` is the version that it says to know, in a read."""
    names = {case_id: "case"}

    def name_of(found: re.Match[str]) -> str:
        return f"%({names.setdefault(found[0], found.lastgroup or f'id{len(names)}')})s"

    def value_of(value: Any) -> ValueOf | None:
        if isinstance(value, str):
            template = UNIQUE_TEXT.sub(name_of, value.replace("%", "%%"))
            return template.__mod__ if template != value else None
        if isinstance(value, list):
            parts = [value_of(each) or partial(_constant, each) for each in value]
            return lambda unique: [part(unique) for part in parts]
        return itemgetter("version") if version is not None and value == version else None

    statements = [[Statement(each, value_of) for each in unit] for unit in units]
    answer_of = value_of(answer) or partial(_constant, answer)
    return RecordedRequest(statements, answer_of, [name for name in names.values() if name.startswith("id")])


def _constant(value: Any, _: Unique) -> Any:
    return value


def _units(sent: Sequence[Sent]) -> Iterator[list[Sent]]:
    """Yield each transaction, and each statement outside of any, in the order in which they end."""
    begun: dict[int, list[Sent]] = {}
    for each in sent:
        control = CONTROL.match(each.sql)
        word = control[1].upper() if control else ""
        if word == "BEGIN":
            begun[id(each.connection)] = [each]
        elif (unit := begun.get(id(each.connection))) is None:
            yield [each]
        else:
            unit.append(each)
            if word in ("COMMIT", "ROLLBACK"):
                yield begun.pop(id(each.connection))


@contextmanager
def _noting(sent: list[Sent]) -> Iterator[None]:
    """Note what the drivers of both databases get during a `with` block, on connections that are opened in it."""
    connect = partial(sqlite3.connect, factory=_noting_connection(sent))
    with ExitStack() as stack:
        for module in (sqlite3, sqlite3.dbapi2):
            stack.enter_context(mock.patch.object(module, "connect", connect))
        for method in _noting_methods(sent):
            stack.enter_context(mock.patch.object(Protocol, method.__name__, method))
        yield


def _noting_connection(sent: list[Sent]) -> type[sqlite3.Connection]:
    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, values: Any = ()) -> Self:
            sent.append(Sent(self.connection, sql, [values]))
            return super().execute(sql, values)

        def executemany(self, sql: str, sets: Any) -> Self:
            sets = list(sets)
            sent.append(Sent(self.connection, sql, sets, is_many=True))
            return super().executemany(sql, sets)

    class Connection(sqlite3.Connection):
        def cursor(self, factory: Any = Cursor) -> Any:
            return super().cursor(factory)

        def execute(self, sql: str, values: Any = ()) -> Any:
            return self.cursor().execute(sql, values)

        def executemany(self, sql: str, sets: Any) -> Any:
            return self.cursor().executemany(sql, sets)

    return Connection


def _noting_methods(sent: list[Sent]) -> list[Any]:
    """Return methods of asyncpg's protocol that note what they send. Prepared statements have no other hook."""
    send_query, send_one, send_many = Protocol.query, Protocol.bind_execute, Protocol.bind_execute_many

    def query(protocol: Protocol, sql: str, *rest: Any) -> Any:
        sent.append(Sent(protocol, sql, [()]))
        return send_query(protocol, sql, *rest)

    def bind_execute(protocol: Protocol, state: Any, args: Any, *rest: Any, **named: Any) -> Any:
        sent.append(Sent(protocol, state.query, [args]))
        return send_one(protocol, state, args, *rest, **named)

    def bind_execute_many(protocol: Protocol, state: Any, args: Any, *rest: Any, **named: Any) -> Any:
        sets = list(args)
        sent.append(Sent(protocol, state.query, sets, is_many=True))
        return send_many(protocol, state, sets, *rest, **named)

    return [query, bind_execute, bind_execute_many]
