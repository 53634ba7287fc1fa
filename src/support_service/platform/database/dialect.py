"""Column types and SQL expressions that differ between SQLite and PostgreSQL, under common names for the stores.

SQLAlchemy's PostgreSQL dialect is imported only when a statement is compiled for it: a service on SQLite never does.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import pydantic_core
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import SyntaxExtension
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import InternalTraversal

STORAGE_KEY = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
"""The key of a file in its storage, sorted by bytes regardless of the database's locale."""

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

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        if value is not None and dialect.name == "sqlite":
            return _utc_text(value)
        return value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        if value is not None and dialect.name == "sqlite":
            return datetime.fromisoformat(value)
        return value  # type: ignore[no-any-return]


@lru_cache(maxsize=16)  # the rows of one write have the same time
def _utc_text(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds")


class JsonValue(sa.TypeDecorator[Any]):
    """A JSON document; None is stored as SQL NULL. PostgreSQL stores it as JSONB."""

    impl = sa.JSON(none_as_null=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import JSONB

            return dialect.type_descriptor(JSONB(none_as_null=True))
        return super().load_dialect_impl(dialect)


JSON_VALUE = JsonValue()


class json_object(FunctionElement[str]):  # noqa: N801 - reads as the SQL function that it is
    """A JSON object as text; the arguments are alternating names and values.

    A `UtcDateTime` becomes ISO 8601 in UTC with microseconds, such as `2026-05-12T08:30:00.125000Z`.
    """

    name = "json_object"
    type = sa.Text()
    inherit_cache = True


class json_rows(FunctionElement[Any]):  # noqa: N801 - reads as the SQL function that it is
    """A JSON array with one `json_object` per row; an empty array without rows."""

    name = "json_rows"
    type = sa.JSON()
    inherit_cache = True


class octets(FunctionElement[int]):  # noqa: N801 - reads as the SQL function that it is
    """The length of a text in bytes; PostgreSQL determines it without reading the text."""

    name = "octets"
    type = sa.BigInteger()
    inherit_cache = True


class latest_time(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """The later of two times, which must not be NULL."""

    name = "latest_time"
    type = UtcDateTime()
    inherit_cache = True


class time_after(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """The first argument, or if that is not later than the second, the first time that is not before the second.

    On PostgreSQL this is one microsecond later. On SQLite, where a transaction takes its time while no other writes, it
    is the second time itself.
    """

    name = "time_after"
    type = UtcDateTime()
    inherit_cache = True


class transaction_lock(FunctionElement[Any]):  # noqa: N801 - reads as the SQL function that it is
    """A lock by number, held until the transaction ends. SQLite, where one transaction writes at a time, needs none."""

    name = "transaction_lock"
    inherit_cache = True


class unindexed(FunctionElement[str]):  # noqa: N801 - reads as the SQL operator that it is
    """A text column that SQLite looks up in no index: it knows no frequency of a value, and may read half of a table.

    PostgreSQL's statistics know them; there it is the column.
    """

    name = "unindexed"
    type = sa.Text()
    inherit_cache = True


NO_PARTS: list[tuple[str, InternalTraversal]] = []


class on_conflict_do_nothing(SyntaxExtension, sa.ClauseElement):  # noqa: N801 - reads as the SQL clause that it is
    """The clause `ON CONFLICT DO NOTHING` of an insert, which is the same in both databases."""

    _traverse_internals = NO_PARTS  # without this SQLAlchemy could not cache the compiled insert

    def apply_to_insert(self, insert_stmt: sa.Insert) -> None:
        insert_stmt.apply_syntax_extension_point(self.append_replacing_same_type, "post_values")


def insert_if_new(table: sa.Table) -> sa.Insert:
    """Return an insert that does nothing if the key already exists."""
    return sa.insert(table).ext(on_conflict_do_nothing())


def text_literal(value: str) -> sa.ColumnClause[str]:
    """Return a text without quotes as a part of the SQL: with a parameter, no partial index would be used."""
    return sa.literal_column(f"'{value}'", sa.String)


def to_json(value: Any) -> str:
    """Serialize a value to JSON for the databases; NaN and infinities become null."""
    return pydantic_core.to_json(value, inf_nan_mode="null").decode()


@compiles(on_conflict_do_nothing)
def _(_element: on_conflict_do_nothing, _compiler: SQLCompiler, **_: Any) -> str:
    return "ON CONFLICT DO NOTHING"


@compiles(json_object, "sqlite")
def _(element: json_object, compiler: SQLCompiler, **kw: Any) -> str:
    # SQLite stores JSON as text: without json() the document would become a quoted string.
    def write(part: sa.ColumnElement[Any]) -> str:
        value = compiler.process(part, **kw)
        if isinstance(part.type, UtcDateTime):
            return f"substr({value}, 1, 26) || 'Z'"  # without +00:00
        return f"json({value})" if isinstance(part.type, sa.JSON | JsonValue) else value

    return f"json_object({', '.join(map(write, element.clauses))})"


@compiles(json_object, "postgresql")
def _(element: json_object, compiler: SQLCompiler, **kw: Any) -> str:
    def write(part: sa.ColumnElement[Any]) -> str:
        value = compiler.process(part, **kw)
        if isinstance(part.type, UtcDateTime):
            return f"""to_char({value} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
        return value

    return f"json_build_object({', '.join(map(write, element.clauses))})"


@compiles(json_rows, "sqlite")
def _(element: json_rows, compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_group_array({compiler.process(element.clauses, **kw)})"


@compiles(json_rows, "postgresql")
def _(element: json_rows, compiler: SQLCompiler, **kw: Any) -> str:
    return f"coalesce(json_agg({compiler.process(element.clauses, **kw)}), '[]'::json)"


@compiles(octets, "sqlite")
def _(element: octets, compiler: SQLCompiler, **kw: Any) -> str:
    return f"length(CAST({compiler.process(element.clauses, **kw)} AS BLOB))"


@compiles(octets, "postgresql")
def _(element: octets, compiler: SQLCompiler, **kw: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **kw)})"


@compiles(latest_time, "sqlite")
@compiles(time_after, "sqlite")
def _(element: FunctionElement[datetime], compiler: SQLCompiler, **kw: Any) -> str:
    return f"max({compiler.process(element.clauses, **kw)})"


@compiles(latest_time, "postgresql")
def _(element: latest_time, compiler: SQLCompiler, **kw: Any) -> str:
    return f"greatest({compiler.process(element.clauses, **kw)})"


@compiles(time_after, "postgresql")
def _(element: time_after, compiler: SQLCompiler, **kw: Any) -> str:
    at, before = (compiler.process(part, **kw) for part in element.clauses)
    return f"greatest({at}, {before} + interval '1 microsecond')"


@compiles(transaction_lock, "sqlite")
def _(_element: transaction_lock, _compiler: SQLCompiler, **_: Any) -> str:
    return "NULL"


@compiles(unindexed, "sqlite")
def _(element: unindexed, compiler: SQLCompiler, **kw: Any) -> str:
    return f"+{compiler.process(element.clauses, **kw)}"


@compiles(unindexed, "postgresql")
def _(element: unindexed, compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(element.clauses, **kw)


@compiles(transaction_lock, "postgresql")
def _(element: transaction_lock, compiler: SQLCompiler, **kw: Any) -> str:
    return f"pg_advisory_xact_lock({compiler.process(element.clauses, **kw)})"
