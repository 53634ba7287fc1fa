"""Lists of any length are few statements: each one that a connection prepares takes its memory and a round trip."""

import weakref

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import asyncpg

from support_service.cases.listing.case_list import page_statement
from support_service.platform.database.statements import StatementCache, padded, with_padded_lists
from support_service.platform.database.tables import customers, tickets

BY_IDS = sa.select(tickets.c.id).where(tickets.c.id.in_(sa.bindparam("ids", expanding=True)))
LONGEST = 2000
FEW = 16  # nine powers of two, and multiples of 256


def ids(number):
    return [f"case-{each}" for each in range(number)]


@pytest.mark.parametrize(
    "to_statement", [lambda _: BY_IDS, lambda some: sa.select(tickets.c.id).where(tickets.c.id.in_(some))]
)
def test_lists_of_any_length_share_few_texts(to_statement):
    """A longer text has the last value again, which changes nothing."""
    statements, texts = StatementCache(asyncpg.dialect()), set()
    for number in range(1, LONGEST):
        wanted = ids(number)
        statement = to_statement(wanted)
        bound = statements.bind(statement, {"ids": wanted} if statement is BY_IDS else None)
        texts.add(bound.sql)
        assert list(dict.fromkeys(bound.values)) == wanted
    assert len(texts) <= FEW


def test_only_lists_of_in_are_padded():
    store = customers.update().values(contacts=sa.bindparam("contacts")).where(customers.c.id == "c-1")
    assert with_padded_lists(store, {"contacts": [1, 2, 3]}) == {"contacts": [1, 2, 3]}
    assert with_padded_lists(BY_IDS, {"ids": ("a", "b", "c")}) == {"ids": ["a", "b", "c", "c"]}
    assert with_padded_lists(BY_IDS, {"ids": []}) == {"ids": []}
    # The parts of a search are in it many times: to walk through them takes longer than a test may.
    search = page_statement(frozenset({"words", "tag_0", "status_0"}), "agent", "newest")
    assert with_padded_lists(search, {"teams": ["a", "b", "c"]}) == {"teams": ["a", "b", "c", "c"]}
    assert {len(padded(ids(number))) for number in range(LONGEST)} <= {*(2**n for n in range(9)), *range(0, 2304, 256)}


@pytest.mark.parametrize(
    "build",
    [
        lambda: sa.select(tickets.c.id).where(tickets.c.id.in_(["case-1", "case-2"])),
        lambda: sa.insert(customers).values([{"id": "c-1"}, {"id": "c-2"}]),
        lambda: tickets.update().where(tickets.c.id == "case-1").values(status="open"),
        lambda: sa.text("SELECT 1"),
    ],
)
def test_statements_of_one_call_are_not_kept(build):
    """They hold values. The compiled form stays, for statements of the same shape."""
    statements, kept = StatementCache(asyncpg.dialect()), []
    for _ in range(3):
        statement = build()
        statements.bind(statement, None)
        kept.append(weakref.ref(statement))
        del statement
    assert [each() for each in kept] == [None] * 3
