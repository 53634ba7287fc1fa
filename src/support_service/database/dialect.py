"""The few expressions that SQLite and PostgreSQL spell differently, as one vocabulary for the stores.

SQLAlchemy's PostgreSQL dialect is imported where a statement is compiled for it: a service on SQLite never needs it.
"""

from datetime import UTC, datetime
from typing import Any

import pydantic_core
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import SyntaxExtension
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import InternalTraversal

STORAGE_KEY = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
"""The key of a file in its storage, in the order of its bytes whatever the database's language is."""

SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A number given out in the order of insertion; SQLite counts up only in a plain integer key."""


class UtcDateTime(sa.TypeDecorator[datetime]):
    """An aware datetime in UTC, to the microsecond.

    On SQLite it is ISO 8601 text of fixed width, so that order by text is order in time.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.String(32))
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        if value is not None and dialect.name == "sqlite":
            return value.astimezone(UTC).isoformat(timespec="microseconds")
        return value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        if value is not None and dialect.name == "sqlite":
            return datetime.fromisoformat(value)
        return value  # type: ignore[no-any-return]


class JsonValue(sa.TypeDecorator[Any]):
    """A JSON document, where None is SQL's NULL; on PostgreSQL in its binary form."""

    impl = sa.JSON(none_as_null=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import JSONB

            return dialect.type_descriptor(JSONB(none_as_null=True))
        return super().load_dialect_impl(dialect)


JSON_VALUE = JsonValue()


class json_object(FunctionElement[str]):  # noqa: N801 - reads as the SQL function that it is
    """A JSON object of names and values in turn, as text."""

    name = "json_object"
    type = sa.Text()
    inherit_cache = True


class json_rows(FunctionElement[Any]):  # noqa: N801 - reads as the SQL function that it is
    """A JSON array of one `json_object` a row; an empty array where there is no row."""

    name = "json_rows"
    type = sa.JSON()
    inherit_cache = True


class octets(FunctionElement[int]):  # noqa: N801 - reads as the SQL function that it is
    """The length of a text in bytes; PostgreSQL tells it without reading the text."""

    name = "octets"
    type = sa.BigInteger()
    inherit_cache = True


class search_matches(FunctionElement[bool]):  # noqa: N801 - reads as the SQL operator that it is
    """Whether a ticket's search text has every word of a query: (sequence column, text column, query).

    The query is words with a star each (`parc* late*`): a word's ending is left open.
    """

    name = "search_matches"
    type = sa.Boolean()
    inherit_cache = True


NO_PARTS: list[tuple[str, InternalTraversal]] = []


class on_conflict_do_nothing(SyntaxExtension, sa.ClauseElement):  # noqa: N801 - reads as the SQL clause that it is
    """The end of an insert that does nothing where the key is there already; both databases spell it alike."""

    _traverse_internals = NO_PARTS  # without this SQLAlchemy would compile the insert each time

    def apply_to_insert(self, insert_stmt: sa.Insert) -> None:
        insert_stmt.apply_syntax_extension_point(self.append_replacing_same_type, "post_values")


def insert_if_new(table: sa.Table) -> sa.Insert:
    """An insert that does nothing where the key is there already."""
    return sa.insert(table).ext(on_conflict_do_nothing())


def to_json(value: Any) -> str:
    """JSON as the databases take it; numbers that JSON does not have become null."""
    return pydantic_core.to_json(value, inf_nan_mode="null").decode()


@compiles(on_conflict_do_nothing)
def _(_element: on_conflict_do_nothing, _compiler: SQLCompiler, **_: Any) -> str:
    return "ON CONFLICT DO NOTHING"


@compiles(json_object, "sqlite")
def _(element: json_object, compiler: SQLCompiler, **kw: Any) -> str:
    # SQLite keeps JSON as text: json() marks it as a document, or it would come out as a quoted string.
    parts = [
        f"json({compiler.process(part, **kw)})"
        if isinstance(part.type, sa.JSON | JsonValue)
        else compiler.process(part, **kw)
        for part in element.clauses
    ]
    return f"json_object({', '.join(parts)})"


@compiles(json_object, "postgresql")
def _(element: json_object, compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_build_object({compiler.process(element.clauses, **kw)})"


@compiles(json_rows, "sqlite")
def _(element: json_rows, compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_group_array(json({compiler.process(element.clauses, **kw)}))"


@compiles(json_rows, "postgresql")
def _(element: json_rows, compiler: SQLCompiler, **kw: Any) -> str:
    return f"coalesce(json_agg({compiler.process(element.clauses, **kw)}), '[]'::json)"


@compiles(octets, "sqlite")
def _(element: octets, compiler: SQLCompiler, **kw: Any) -> str:
    return f"length(CAST({compiler.process(element.clauses, **kw)} AS BLOB))"


@compiles(octets, "postgresql")
def _(element: octets, compiler: SQLCompiler, **kw: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **kw)})"


@compiles(search_matches, "sqlite")
def _(element: search_matches, compiler: SQLCompiler, **kw: Any) -> str:
    sequence, _, query = (compiler.process(part, **kw) for part in element.clauses)
    return f"{sequence} IN (SELECT rowid FROM ticket_search WHERE ticket_search MATCH {query})"  # noqa: S608 - compiled parts, bound values


@compiles(search_matches, "postgresql")
def _(element: search_matches, compiler: SQLCompiler, **kw: Any) -> str:
    _, text, query = (compiler.process(part, **kw) for part in element.clauses)
    return f"to_tsvector('simple', {text}) @@ to_tsquery('simple', replace(replace({query}, '*', ':*'), ' ', ' & '))"
