"""SQLite's search index: it has the words of each committed document, and of no other."""

import asyncio

import pytest
import sqlalchemy as sa

from support_service.platform.database.tables import search_documents

ADD = search_documents.insert()
FIND = sa.text("SELECT rowid FROM ticket_search WHERE ticket_search MATCH :word ORDER BY rowid")
# Fails if the index has words that its documents do not have, or lacks some.
CHECK = sa.text("INSERT INTO ticket_search(ticket_search, rank) VALUES ('integrity-check', 1)")
BY_ID = search_documents.c.id == sa.bindparam("document")
CHANGE = search_documents.update().where(BY_ID).values(words=sa.bindparam("new_words"))
REMOVE = search_documents.delete().where(BY_ID)


def document(number, words):
    return {"id": number, "internal": False, "words": words}


async def found(database, word):
    """Return the documents that the index finds, after a check of the whole index."""
    async with database.transaction() as tx:
        await tx.execute(CHECK)
    return [row[0] for row in await database.fetch_all(FIND, {"word": word})]


async def add(database, number, *, fails=False):
    async with database.transaction() as tx:
        await tx.execute(ADD, document(number, "late parcel"))
        if fails:
            raise KeyError


async def test_documents_of_a_shared_commit_are_found_after_it(database):
    """All but the document of a transaction that failed."""
    ends = await asyncio.gather(
        *(add(database, number, fails=number == 2) for number in range(1, 5)), return_exceptions=True
    )
    assert list(map(type, ends)) == [type(None), KeyError, type(None), type(None)]
    assert await found(database, "parcel") == [1, 3, 4]


@pytest.mark.parametrize("indexed_before", [False, True])
async def test_words_that_are_changed_or_removed_are_not_found(database, indexed_before):
    """Whether or not the transaction that adds a document also changes it."""

    async def change(tx):
        await tx.execute(CHANGE, {"document": 1, "new_words": "late letter"})
        await tx.execute(CHANGE, {"document": 2, "new_words": "early parcel"})
        await tx.execute(REMOVE, {"document": 2})

    async with database.transaction() as tx:
        await tx.execute(ADD, [document(number, "late parcel") for number in (1, 2, 3)])
        if not indexed_before:
            await change(tx)
    if indexed_before:
        assert await found(database, "parcel") == [1, 2, 3]
        async with database.transaction() as tx:
            await change(tx)
    assert await found(database, "late") == [1, 3]
    assert await found(database, "parcel") == [3]
    assert await found(database, "letter") == [1]
    assert await found(database, "early") == []


async def test_documents_of_a_previous_release_are_indexed_by_the_next_commit(database, database_url):
    """Its commits index nothing, because triggers only note what the index lacks."""
    engine = sa.create_engine(database_url.replace("sqlite:", "sqlite+pysqlite:"))
    with engine.begin() as connection:
        connection.execute(ADD, document(1, "late parcel"))
        connection.execute(ADD, document(2, "late parcel"))
        connection.execute(REMOVE, {"document": 2})
    engine.dispose()
    await add(database, 3)
    assert await found(database, "parcel") == [1, 3]
