"""SQL of the search for cases by words of the case itself or of its messages.

A word is in few documents or in very many, and the planners of the databases can't tell. At a million cases it takes
seconds to read all entries of a frequent word from the index. It takes seconds, too, to read every case for a rare
word. So a search goes from the newest cases to older ones in steps that grow, and ends when the page is full. The
newest documents are read one by one. Then the index is asked for documents of a small range of cases, of a larger
range, and of all. One statement holds all steps; the database runs a step only if those before it did not fill the
page.
"""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from support_service.core.domain.references import NAME_BY_REFERENCE_KIND
from support_service.core.search_words import SoughtIds
from support_service.platform.database import Transaction
from support_service.platform.database.dialect import (
    POSITION_BITS,
    insert_if_new,
    matching_documents,
    search_vector,
    text_literal,
    words_match,
)
from support_service.platform.database.statements import compiled
from support_service.platform.database.tables import messages, search_documents, ticket_references, tickets

LONGEST_TEXT_PARAMETER = "longest_text"
DOCUMENTS_READ_FIRST = 400  # number of documents that are read one by one
RANGE_BITS = (14, 17)  # sizes of the ranges of cases, as powers of two; each step covers one to two ranges


def literal_number(value: int) -> sa.ColumnElement[int]:
    """Return a number that is part of the statement's text, so that planners know it."""
    return sa.literal_column(str(value), sa.BigInteger())


ONE_MORE: sa.BindParameter[int] = sa.bindparam("one_more", type_=sa.BigInteger())
QUERY_PARAMETER = sa.bindparam("words", type_=sa.Text())
_MATCHES_QUERY = words_match(
    search_documents.c.words, QUERY_PARAMETER, sa.bindparam(LONGEST_TEXT_PARAMETER, type_=sa.Text())
)
# By what a search names cases beside words, see `parameters_of_ids`.
ID_PARAMETERS = ("sought_id", "sought_capitals", "sought_prefix", "sought_end")
_ID, _CAPITALS, _PREFIX, _END = (sa.bindparam(name, type_=sa.String()) for name in ID_PARAMETERS)
# A condition that no index has: the planner can't decide to read all documents with the words for each case.
_READ_DOCUMENT_MATCHES = sa.case((_MATCHES_QUERY, literal_number(1)), else_=literal_number(0)) == literal_number(1)
_CASE_FACTOR = literal_number(1 << POSITION_BITS)
_MAX_POSITION = literal_number((1 << POSITION_BITS) - 1)
_POSITION = sa.case((tickets.c.version < _MAX_POSITION, tickets.c.version), else_=_MAX_POSITION)
# After the message has changed the version of its case. In a case of more than a million changes, messages beyond them
# are not searchable.
ADD_DOCUMENT = compiled(
    insert_if_new(search_documents).from_select(
        ["id", "internal", "words"],
        sa.select(
            tickets.c.seq * _CASE_FACTOR + _POSITION,
            sa.bindparam("is_internal", type_=sa.Boolean()),
            search_vector(sa.bindparam("document_words", type_=sa.Text()), tickets.c.seq),
        ).where(tickets.c.id == sa.bindparam("case_id")),
    )
)


async def remove_message_documents(tx: Transaction, case_id: str) -> None:
    """Remove the words of a case's messages from the search index."""
    first = sa.select(tickets.c.seq * _CASE_FACTOR).where(tickets.c.id == case_id).scalar_subquery()
    documents = search_documents.c.id
    await tx.execute(search_documents.delete().where(documents > first, documents <= first + _MAX_POSITION))


def parameters_of_ids(sought: SoughtIds) -> dict[str, str]:
    """Return the parameters of `select_cases_of_ids`."""
    found = {"sought_id": sought.value, "sought_capitals": sought.capitals}
    # Hexadecimal digits and hyphens come before `g` in every locale.
    return found | ({"sought_prefix": sought.prefix, "sought_end": f"{sought.prefix}g"} if sought.prefix else {})


def names_ids(names: Collection[str]) -> bool:
    """Return whether a query with these parameters also names cases by ids."""
    return "sought_id" in names


def select_cases_of_ids(names: Collection[str]) -> sa.Select[Any]:
    """Return the SELECT of `seq` of the cases that have or refer to a sought id: few, each by an index."""
    references = ticket_references.c
    of_references = sa.select(references.ticket_id).where(
        references.kind.in_([text_literal(kind) for kind in NAME_BY_REFERENCE_KIND]),
        references.value.in_([_ID, _CAPITALS]),
    )
    ways = [tickets.c.external_id == _ID, tickets.c.id.in_(of_references)]
    if "sought_prefix" in names:
        begins = sa.func.substr(tickets.c.id, literal_number(1), sa.func.length(_PREFIX)) == _PREFIX
        ways.append(sa.and_(tickets.c.id >= _PREFIX, tickets.c.id < _END, begins))
    named = sa.union_all(*(sa.select(tickets.c.seq).where(way) for way in ways)).subquery()
    return sa.select(named.c.seq).distinct()


def case_matches_condition(*, public_only: bool) -> sa.ColumnElement[bool]:
    """Return the condition that one document of the case matches the bound query; for cases of one customer."""
    first = tickets.c.seq * _CASE_FACTOR
    conditions = [search_documents.c.id.between(first, first + _MAX_POSITION), _MATCHES_QUERY]
    if public_only:
        conditions.append(search_documents.c.internal.is_(sa.false()))
    return sa.exists().where(*conditions)


def any_document_matches_condition(seq: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Return the condition that one document, public or internal, of the case with a seq matches the bound query."""
    first = seq * _CASE_FACTOR
    return sa.exists().where(search_documents.c.id.between(first, first + _MAX_POSITION), _READ_DOCUMENT_MATCHES)


def matching_message(seq: sa.ColumnElement[int], page: sa.FromClause, *, public_only: bool, length: int) -> Any:
    """Return a subquery for the id, a space and the beginning of the newest message of a case that matches.

    The beginning has `length` characters. It is NULL if the case itself matches the bound query `words`, and if there
    is no such message. `seq` is the column of `page` that names the case.

    A document does not name its message, but the messages of a case are in the order of their documents. The message
    has as many newer messages as its document has newer documents. Messages without a document, which an erasure
    leaves, are older than all others.
    """
    first = seq * _CASE_FACTOR
    last = first + _MAX_POSITION
    newer, placed = search_documents.alias("newer"), messages.alias("placed")
    document = search_documents.c.id
    of_case = sa.exists().where(document == first, _READ_DOCUMENT_MATCHES).correlate(page)
    visible = [search_documents.c.internal.is_(sa.false())] if public_only else []
    newest = (
        sa.select(document)
        .where(document > first, document <= last, _READ_DOCUMENT_MATCHES, *visible)
        .order_by(document.desc())
        .limit(literal_number(1))
        .correlate(page)
        .scalar_subquery()
    )
    place = sa.select(sa.func.count()).where(newer.c.id >= newest, newer.c.id <= last).correlate(page).scalar_subquery()
    numbered = (
        sa.select(placed.c.seq, sa.func.row_number().over(order_by=placed.c.seq.desc()).label("place"))
        .join(tickets, tickets.c.id == placed.c.ticket_id)
        .where(tickets.c.seq == seq)
        .correlate(page)
        .subquery("numbered")
    )
    beginning = sa.func.substr(messages.c.message, literal_number(1), literal_number(length), type_=sa.Text())
    text = (
        sa.select(messages.c.id + text_literal(" ") + beginning)
        .join(numbered, numbered.c.seq == messages.c.seq)
        .where(numbered.c.place == place, *([messages.c.visibility == "public"] if public_only else []))
        .correlate(page)
        .scalar_subquery()
    )
    return sa.case((sa.not_(of_case), text))


def select_newest_matches(
    conditions: Sequence[sa.ColumnElement[bool]], *, after: bool, only_if: sa.ColumnElement[bool] | None = None
) -> sa.Select[Any]:
    """Return the SELECT of `seq` of the cases that match the bound query and the conditions, newest first.

    With `after`, only cases older than the bound seq `after`; with `only_if`, none if that is false. The caller adds
    the limit; `one_more` must be bound too.
    """
    below = [search_documents.c.id < sa.bindparam("after", type_=sa.BigInteger()) * _CASE_FACTOR] if after else []
    matches = _MATCHES_QUERY.label("matches")
    newest = sa.select(search_documents.c.id, _case_seq(search_documents.c.id).label("seq"), matches).where(*below)
    number = literal_number(DOCUMENTS_READ_FIRST)
    if only_if is not None:
        # Not a condition of the rows, which SQLite would evaluate for each document.
        number = sa.select(sa.case((only_if, number), else_=literal_number(0))).scalar_subquery()
    read = materialized(newest.order_by(search_documents.c.id.desc()).limit(number))
    # The oldest case that was read may have more documents, so that the next step begins with it.
    complete = sa.func.count() < literal_number(DOCUMENTS_READ_FIRST)
    rest = sa.select(
        sa.case((complete, literal_number(-1)), else_=sa.func.min(read.c.seq)).label("newest")
    ).select_from(read)
    position = materialized(rest)
    newest_left: sa.ColumnElement[int] = sa.select(position.c.newest).scalar_subquery()
    steps = [sa.select(read.c.seq).where(read.c.matches, read.c.seq > newest_left)]
    for bits in RANGE_BITS:
        first_range = newest_left.bitwise_rshift(literal_number(bits)) - literal_number(1)
        steps.append(case_seqs_of(matching_documents(QUERY_PARAMETER, newest_left, literal_number(bits), first_range)))
        newest_left = first_range.bitwise_lshift(literal_number(bits)) - literal_number(1)
    steps.append(case_seqs_of(matching_documents(QUERY_PARAMETER, newest_left)))
    found = sa.union_all(*(select_existing(step, conditions) for step in steps)).subquery()
    return sa.select(found.c.seq)


def materialized(rows: sa.Select[Any] | sa.CompoundSelect[Any]) -> Any:
    """Return a common table expression that PostgreSQL computes once, by itself.

    It has no name of its own, because one statement may hold two searches.
    """
    return rows.cte().prefix_with("MATERIALIZED")


def _case_seq(document_id: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return document_id.bitwise_rshift(literal_number(POSITION_BITS))


def case_seqs_of(found: matching_documents) -> sa.Select[Any]:
    """Return the SELECT of the `seq` of the case of each document."""
    return sa.select(_case_seq(found.table_valued(sa.column("id", sa.BigInteger)).c.id).label("seq"))


def select_existing(matching: sa.Select[Any], conditions: Sequence[sa.ColumnElement[bool]]) -> sa.Select[Any]:
    """Return the SELECT of `seq` of the first `one_more` matching cases that meet the conditions, newest first.

    Each case is looked up by its key, one after another until the page is full. With a join instead, the database may
    choose to read all cases.
    """
    newest = matching.distinct().order_by(sa.desc("seq")).subquery()
    found = (
        sa.select(tickets.c.seq).where(tickets.c.seq == newest.c.seq, *conditions).correlate(newest).scalar_subquery()
    )
    return sa.select(sa.select(newest).where(found.is_not(None)).limit(ONE_MORE).subquery())
