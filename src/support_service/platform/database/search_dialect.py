"""Column type and SQL expressions of the word search, which differ between SQLite (FTS5) and PostgreSQL (GIN)."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

POSITION_BITS = 20  # of a search document's id; the rest is the seq of its case


class SearchWords(sa.TypeDecorator[str]):
    """Words separated by spaces, as `search_text` returns them. PostgreSQL stores them as TSVECTOR."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import TSVECTOR

            return dialect.type_descriptor(TSVECTOR())
        return super().load_dialect_impl(dialect)


SEARCH_WORDS = SearchWords()


class search_vector(FunctionElement[str]):  # noqa: N801 - reads as the SQL function that it is
    """The value of a column of type `SearchWords`. Arguments: a text of words separated by spaces, seq of the case."""

    name = "search_vector"
    type = SEARCH_WORDS
    inherit_cache = True


class words_match(FunctionElement[bool]):  # noqa: N801 - reads as the SQL operator that it is
    """True if words match a query, checked row by row. Arguments: column of `SearchWords`, query (`search_query`)."""

    name = "words_match"
    type = sa.Boolean()
    inherit_cache = True


class found_documents(FunctionElement[Any]):  # noqa: N801 - reads as the SQL function that it is
    """Rows with the `id` of documents that the search index finds among the cases of a seq up to `newest`.

    Arguments: query, `newest`, and optionally `bits` and `first`: only among cases from two ranges, `first` and the one
    after it; `seq >> bits` is the number of a case's range. The index of PostgreSQL has words that stand for ranges.
    """

    name = "found_documents"
    inherit_cache = True


@compiles(search_vector, "sqlite")
def _(element: search_vector, compiler: SQLCompiler, **kw: Any) -> str:
    words, _ = element.clauses
    return compiler.process(words, **kw)


@compiles(search_vector, "postgresql")
def _(element: search_vector, compiler: SQLCompiler, **kw: Any) -> str:
    words, seq = (compiler.process(part, **kw) for part in element.clauses)
    return f"search_vector(CAST({words} AS TEXT), {seq})"


@compiles(words_match, "sqlite")
def _(element: words_match, compiler: SQLCompiler, **kw: Any) -> str:
    return f"words_match({compiler.process(element.clauses, **kw)})"  # a function of sqlite/engine.py


@compiles(found_documents, "sqlite")
def _(element: found_documents, compiler: SQLCompiler, **kw: Any) -> str:
    query, newest, *cases = (compiler.process(part, **kw) for part in element.clauses)
    lowest = f" AND rowid >= {cases[1]} << ({cases[0]} + {POSITION_BITS})" if cases else ""
    below = f"({newest} + 1) << {POSITION_BITS}"
    return f"(SELECT rowid AS id FROM ticket_search WHERE ticket_search MATCH {query} AND rowid < {below}{lowest})"  # noqa: S608 - compiled parts, bound values


@compiles(words_match, "postgresql")
def _(element: words_match, compiler: SQLCompiler, **kw: Any) -> str:
    words, query = (compiler.process(part, **kw) for part in element.clauses)
    return f"{words} @@ {_tsquery(query)}"


@compiles(found_documents, "postgresql")
def _(element: found_documents, compiler: SQLCompiler, **kw: Any) -> str:
    query, newest, *cases = (compiler.process(part, **kw) for part in element.clauses)
    ranges = ""
    if cases:
        bits, first = cases
        ranges = f" || format(' & (''r%s_%s'' | ''r%s_%s'')', {bits}, {first}, {bits}, {first} + 1)"
    # The sum hides the key from the planner: reading the key's index up to here would cost more than the search.
    bounded = f"id + 0 < ({newest} + 1) << {POSITION_BITS} AND {newest} >= 0"
    return f"(SELECT id FROM search_documents WHERE words @@ {_tsquery(query, ranges)} AND {bounded})"  # noqa: S608 - compiled parts, bound values


def _tsquery(query: str, more: str = "") -> str:
    """Return a subquery for the TSQUERY of a search with more conditions; PostgreSQL runs it once, not for each row."""
    for own, postgresql in ((" AND ", " & "), (" + ", " <-> "), ("*", ":*"), ('"', "''")):
        query = f"replace({query}, '{own}', '{postgresql}')"
    return f"(SELECT CAST({query}{more} AS TSQUERY))"
