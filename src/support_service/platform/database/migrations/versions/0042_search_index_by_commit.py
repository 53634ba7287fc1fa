"""SQLite: the search index gets the documents of one commit together.

FTS5 writes the words that it has collected whenever a savepoint begins. That is for each transaction of a group, and
for each statement that SQLite may have to undo. Triggers now only note the documents that the index lacks. The service
adds them to the index before it commits.

The triggers note documents of a previous release, too. The next commit of this release indexes them.
"""

from alembic import op

revision = "0042"
down_revision = "0041"

TRIGGERS = ("search_documents_insert", "search_documents_delete", "search_documents_update")
FORGET_WORDS = "INSERT INTO ticket_search(ticket_search, rowid, words)"
IS_INDEXED = "NOT EXISTS (SELECT 1 FROM ticket_search_pending WHERE id = old.id)"
UPGRADE = (
    "CREATE TABLE ticket_search_pending (id INTEGER PRIMARY KEY)",
    """
    CREATE TRIGGER search_documents_insert AFTER INSERT ON search_documents
    BEGIN INSERT INTO ticket_search_pending(id) VALUES (new.id); END
    """,
    f"""
    CREATE TRIGGER search_documents_delete AFTER DELETE ON search_documents
    BEGIN
        {FORGET_WORDS} SELECT 'delete', old.id, old.words WHERE {IS_INDEXED};
        DELETE FROM ticket_search_pending WHERE id = old.id;
    END
    """,  # noqa: S608 - our own literals
    f"""
    CREATE TRIGGER search_documents_update AFTER UPDATE ON search_documents
    BEGIN
        {FORGET_WORDS} SELECT 'delete', old.id, old.words WHERE {IS_INDEXED};
        INSERT OR IGNORE INTO ticket_search_pending(id) VALUES (new.id);
    END
    """,  # noqa: S608 - our own literals
)
DOWNGRADE = (
    """
    INSERT INTO ticket_search(rowid, words)
    SELECT id, words FROM search_documents WHERE id IN (SELECT id FROM ticket_search_pending)
    """,
    "DROP TABLE ticket_search_pending",
    """
    CREATE TRIGGER search_documents_insert AFTER INSERT ON search_documents
    BEGIN INSERT INTO ticket_search(rowid, words) VALUES (new.id, new.words); END
    """,
    f"""
    CREATE TRIGGER search_documents_delete AFTER DELETE ON search_documents
    BEGIN {FORGET_WORDS} VALUES ('delete', old.id, old.words); END
    """,
    f"""
    CREATE TRIGGER search_documents_update AFTER UPDATE ON search_documents
    BEGIN
        {FORGET_WORDS} VALUES ('delete', old.id, old.words);
        INSERT INTO ticket_search(rowid, words) VALUES (new.id, new.words);
    END
    """,  # noqa: S608 - our own literals
)


def upgrade() -> None:
    _replace_triggers(UPGRADE)


def downgrade() -> None:
    _replace_triggers(DOWNGRADE)


def _replace_triggers(statements: tuple[str, ...]) -> None:
    if op.get_context().dialect.name == "postgresql":
        return
    for name in TRIGGERS:
        op.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        op.execute(statement)
