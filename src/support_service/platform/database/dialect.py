"""Column types and SQL expressions that differ between SQLite and PostgreSQL, under common names.

SQLAlchemy's PostgreSQL dialect is imported only when a statement is compiled for it: a service on SQLite never does.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import IntEnum, unique
from functools import lru_cache
from typing import Any, ClassVar, TypeVar

import pydantic_core
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import SyntaxExtension
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import InternalTraversal

T = TypeVar("T")

STORAGE_KEY = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
"""The key of a file in its storage, sorted by bytes regardless of the database's locale."""

SORTED_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""A text that is found by its beginning: sorted by bytes regardless of the database's locale."""

SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A number that increases in the order of insertion; SQLite increments only plain INTEGER keys."""


class UtcDateTime(sa.TypeDecorator[datetime]):
    """A timezone-aware datetime in UTC with microseconds.

    SQLite stores it as ISO 8601 text of fixed width, so that text order is time order.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.String(32))
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    # PostgreSQL's driver takes and returns such datetimes itself.

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[datetime | None], str | None] | None:
        return _utc_text if dialect.name == "sqlite" else None

    def result_processor(self, dialect: sa.Dialect, _coltype: object) -> Callable[[str | None], datetime | None] | None:
        return _utc_datetime if dialect.name == "sqlite" else None


@lru_cache(maxsize=16)  # the rows of one write have the same time
def _utc_text(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")


def _utc_datetime(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


class JsonValue(sa.TypeDecorator[Any]):
    """A JSON document; None is stored as SQL NULL. PostgreSQL stores it as JSONB."""

    impl = sa.JSON(none_as_null=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import JSONB

            return dialect.type_descriptor(JSONB(none_as_null=True))
        return super().load_dialect_impl(dialect)


class SearchWords(sa.TypeDecorator[str]):
    """Words separated by spaces, as `search_text` returns them. PostgreSQL stores them as TSVECTOR."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import TSVECTOR

            return dialect.type_descriptor(TSVECTOR())
        return super().load_dialect_impl(dialect)


JSON_VALUE = JsonValue()
SEARCH_WORDS = SearchWords()
POSITION_BITS = 20  # of a search document's id; the rest is the seq of its case


class DialectFunction(FunctionElement[T]):
    """An SQL function that each database writes in its own way: `sqlite` and `postgresql` have places for arguments."""

    name: ClassVar[str]
    sqlite: ClassVar[str]
    postgresql: ClassVar[str]

    def __init_subclass__(cls, **options: Any) -> None:
        cls.name = cls.__name__
        cls.inherit_cache = True
        super().__init_subclass__(**options)


@compiles(DialectFunction)
def _(element: DialectFunction[Any], compiler: SQLCompiler, **kw: Any) -> str:
    template = element.sqlite if compiler.dialect.name == "sqlite" else element.postgresql
    arguments = (  # one that the template does not use is not bound
        compiler.process(argument, **kw) if f"{{{place}}}" in template else ""
        for place, argument in enumerate(element.clauses)
    )
    return template.format(*arguments)


# The names of functions are in lower case, because they read as SQL.


class json_rows(DialectFunction[Any]):  # noqa: N801
    """A JSON array with one `json_object` per row; an empty array without rows."""

    type = sa.JSON()
    sqlite = "json_group_array({0})"
    postgresql = "coalesce(json_agg({0}), '[]'::json)"


class octets(DialectFunction[int]):  # noqa: N801
    """The length of a text in bytes; PostgreSQL determines it without reading the text."""

    type = sa.BigInteger()
    sqlite = "length(CAST({0} AS BLOB))"
    postgresql = "octet_length({0})"


class latest_time(DialectFunction[datetime]):  # noqa: N801
    """The later of two times, which must not be NULL."""

    type = UtcDateTime()
    sqlite = "max({0}, {1})"
    postgresql = "greatest({0}, {1})"


class time_after(DialectFunction[datetime]):  # noqa: N801
    """The first argument, or if that is not later than the second, the first time that is not before the second.

    On PostgreSQL this is one microsecond later. On SQLite, where a transaction takes its time while no other writes, it
    is the second time itself.
    """

    type = UtcDateTime()
    sqlite = "max({0}, {1})"
    postgresql = "greatest({0}, {1} + interval '1 microsecond')"


class transaction_lock(DialectFunction[Any]):  # noqa: N801
    """A lock by number, held until the transaction ends. SQLite, where one transaction writes at a time, needs none."""

    sqlite = "NULL"
    postgresql = "pg_advisory_xact_lock({0})"


@unique
class LockNumber(IntEnum):
    """The number of each lock that is not one of a row. Any number does, and all releases use the same."""

    MIGRATION = 7_351_902_114  # replicas that start together migrate one after another
    COPY = 7_351_902_115  # a copy that was killed may still begin or end
    REPORT_COUNTERS = 7_351_902_116  # one transaction at a time adds to counters
    DIRECTED_LINKS = 7_418_002  # no cycle of links is closed by two transactions at once
    CUSTOMER_MERGES = 7_418_003  # ids of a person change in one transaction at a time


def take_lock(lock: LockNumber) -> sa.Select[Any]:
    """Return the SELECT that waits for a lock, which the transaction then holds."""
    return sa.select(transaction_lock(sa.literal_column(str(lock.value))).label("locked"))


class json_object(FunctionElement[str]):  # noqa: N801
    """A JSON object as text; the arguments are alternating names and values.

    A `UtcDateTime` becomes ISO 8601 in UTC with microseconds, such as `2026-05-12T08:30:00.125000Z`.
    """

    name = "json_object"
    type = sa.Text()
    inherit_cache = True


@compiles(json_object)
def _(element: json_object, compiler: SQLCompiler, **kw: Any) -> str:
    is_sqlite = compiler.dialect.name == "sqlite"

    def write(part: sa.ColumnElement[Any]) -> str:
        value = compiler.process(part, **kw)
        if isinstance(part.type, UtcDateTime):
            if is_sqlite:
                return f"substr({value}, 1, 26) || 'Z'"  # without +00:00
            return f"""to_char({value} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
        # SQLite stores JSON as text: without json() the document would become a quoted string.
        return f"json({value})" if is_sqlite and isinstance(part.type, sa.JSON | JsonValue) else value

    return f"{'json_object' if is_sqlite else 'json_build_object'}({', '.join(map(write, element.clauses))})"


def to_json(value: Any) -> str:
    """Serialize a value to JSON for the databases; NaN and infinities become null."""
    return pydantic_core.to_json(value, inf_nan_mode="null").decode()


def _tsquery_subquery(query: str) -> str:
    """Return a subquery for the TSQUERY of a search; PostgreSQL runs it once, not for each row."""
    for own, postgresql in ((" AND ", " & "), (" + ", " <-> "), ("*", ":*"), ('"', "''")):
        query = f"replace({query}, '{own}', '{postgresql}')"
    return f"(SELECT CAST({query} AS TSQUERY))"


class search_vector(DialectFunction[str]):  # noqa: N801
    """The value of a column of type `SearchWords`. Arguments: a text of words separated by spaces, seq of the case."""

    type = SEARCH_WORDS
    sqlite = "{0}"
    postgresql = "search_vector(CAST({0} AS TEXT), {1})"


class words_match(DialectFunction[bool]):  # noqa: N801
    """True if words match a query, row by row.

    Arguments: column of `SearchWords`, query (`parse_search_query`), and the longest text of the query. SQLite looks
    for this text itself, and calls Python only where it is. A call takes longer than reading the words, and waits for
    the event loop.
    """

    type = sa.Boolean()
    sqlite = "(instr({0}, {2}) AND words_match({0}, {1}))"  # a function of sqlite/engine.py
    postgresql = f"{{0}} @@ {_tsquery_subquery('{1}')}"


class matching_documents(FunctionElement[Any]):  # noqa: N801
    """Rows with the `id` of documents that the search index finds among the cases of a seq up to `newest`.

    Arguments: query, `newest`, and optionally `bits` and `first`. The last two select cases from two ranges, `first`
    and the one after it; `seq >> bits` is the number of a case's range. The index of PostgreSQL has words that stand
    for ranges.
    """

    name = "matching_documents"
    inherit_cache = True


@compiles(matching_documents, "sqlite")
def _(element: matching_documents, compiler: SQLCompiler, **kw: Any) -> str:
    query, newest, *cases = (compiler.process(part, **kw) for part in element.clauses)
    lowest = f" AND rowid >= {cases[1]} << ({cases[0]} + {POSITION_BITS})" if cases else ""
    found = f"ticket_search MATCH {query} AND rowid < ({newest} + 1) << {POSITION_BITS}{lowest}"
    # The search index collects all documents with a prefix before it returns the first one, so it is asked only if some
    # may be returned. CROSS JOIN keeps this order.
    return f"(SELECT rowid AS id FROM (SELECT 1 WHERE {newest} >= 0) CROSS JOIN ticket_search WHERE {found})"  # noqa: S608 - compiled parts, bound values


@compiles(matching_documents, "postgresql")
def _(element: matching_documents, compiler: SQLCompiler, **kw: Any) -> str:
    query, newest, *cases = (compiler.process(part, **kw) for part in element.clauses)
    matches = f"words @@ {_tsquery_subquery(query)}"
    if cases:
        bits, first = cases
        ranges = f"format('(''r%s_%s'' | ''r%s_%s'')', {bits}, {first}, {bits}, {first} + 1)"
        # A condition of its own: the index skips to the ranges, and reads the entries of each word only there.
        matches += f" AND words @@ (SELECT CAST({ranges} AS TSQUERY))"
    # The sum hides the key from the planner: reading the key's index up to here would cost more than the search.
    bounded = f"id + 0 < ({newest} + 1) << {POSITION_BITS} AND {newest} >= 0"
    return f"(SELECT id FROM search_documents WHERE {matches} AND {bounded})"  # noqa: S608 - compiled parts, bound values


NO_PARTS: list[tuple[str, InternalTraversal]] = []


class on_conflict_do_nothing(SyntaxExtension, sa.ClauseElement):  # noqa: N801
    """The clause `ON CONFLICT DO NOTHING` of an insert, which is the same in both databases."""

    _traverse_internals = NO_PARTS  # without this SQLAlchemy could not cache the compiled insert

    def apply_to_insert(self, insert_stmt: sa.Insert) -> None:
        insert_stmt.apply_syntax_extension_point(self.append_replacing_same_type, "post_values")


@compiles(on_conflict_do_nothing)
def _(_element: on_conflict_do_nothing, _compiler: SQLCompiler, **_: Any) -> str:
    return "ON CONFLICT DO NOTHING"


def insert_if_new(table: sa.Table) -> sa.Insert:
    """Return an insert that does nothing if the key already exists."""
    return sa.insert(table).ext(on_conflict_do_nothing())


def text_literal(value: str) -> sa.ColumnClause[str]:
    """Return a text without quotes as a part of the SQL: with a parameter, no partial index would be used."""
    return sa.literal_column(f"'{value}'", sa.String)
