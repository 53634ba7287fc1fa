"""Search documents: the searchable words of each case and of each message, which no read computes again.

The key of a document is the `seq` of its case times 2**20 plus a number. The number is 0 for the case itself, or the
case's version after the message was added. So the documents of the newest cases come first in the order of the key.
Triggers keep the documents of cases in step with `tickets.search_text`; the service adds the documents of messages.

Rows that exist are filled in a few at a time, while the service reads and writes. A message that the previous release
adds since 0035 has none: `messages.has_document` says so, and a job makes it. An attempt that is interrupted on
PostgreSQL is repeated from the start: each step may have been done before.
"""

import sqlalchemy as sa
from alembic import op

from support_service.core.search_words import search_text
from support_service.platform.database.dialect import SEARCH_WORDS

revision = "0038"
down_revision = "0037"

BATCH = 1000  # rows in one transaction
CASE_KEYS = "BETWEEN {seq} << 20 AND ({seq} << 20) + 1048575"
SQLITE = (
    "DROP TRIGGER tickets_search_insert",
    "DROP TRIGGER tickets_search_delete",
    "DROP TRIGGER tickets_search_update",
    "DROP TABLE ticket_search",
    """
    CREATE VIRTUAL TABLE ticket_search USING fts5(
        words, content='search_documents', content_rowid='id', tokenize='unicode61 remove_diacritics 0'
    )
    """,
    """
    CREATE TRIGGER search_documents_insert AFTER INSERT ON search_documents
    BEGIN INSERT INTO ticket_search(rowid, words) VALUES (new.id, new.words); END
    """,
    """
    CREATE TRIGGER search_documents_delete AFTER DELETE ON search_documents
    BEGIN INSERT INTO ticket_search(ticket_search, rowid, words) VALUES ('delete', old.id, old.words); END
    """,
    """
    CREATE TRIGGER search_documents_update AFTER UPDATE ON search_documents
    BEGIN
        INSERT INTO ticket_search(ticket_search, rowid, words) VALUES ('delete', old.id, old.words);
        INSERT INTO ticket_search(rowid, words) VALUES (new.id, new.words);
    END
    """,
    """
    CREATE TRIGGER tickets_search_insert AFTER INSERT ON tickets
    BEGIN INSERT INTO search_documents(id, internal, words) VALUES (new.seq << 20, false, new.search_text); END
    """,
    """
    CREATE TRIGGER tickets_search_update AFTER UPDATE OF search_text ON tickets
    BEGIN UPDATE search_documents SET words = new.search_text WHERE id = new.seq << 20; END
    """,
    f"""
    CREATE TRIGGER tickets_search_delete AFTER DELETE ON tickets
    BEGIN DELETE FROM search_documents WHERE id {CASE_KEYS.format(seq="old.seq")}; END
    """,  # noqa: S608 - our own literals
)
INDEX_ROW = "INSERT INTO ticket_search(rowid, search_text) VALUES (new.seq, new.search_text)"
FORGET_ROW = "INSERT INTO ticket_search(ticket_search, rowid, search_text) VALUES ('delete', old.seq, old.search_text)"
EARLIER_SQLITE = (
    """
    CREATE VIRTUAL TABLE ticket_search USING fts5(
        search_text, content='tickets', content_rowid='seq', tokenize='unicode61 remove_diacritics 0'
    )
    """,
    f"CREATE TRIGGER tickets_search_insert AFTER INSERT ON tickets BEGIN {INDEX_ROW}; END",
    f"CREATE TRIGGER tickets_search_delete AFTER DELETE ON tickets BEGIN {FORGET_ROW}; END",
    f"""
    CREATE TRIGGER tickets_search_update AFTER UPDATE OF search_text ON tickets
    BEGIN {FORGET_ROW}; {INDEX_ROW}; END
    """,
    "INSERT INTO ticket_search(ticket_search) VALUES ('rebuild')",
)
POSTGRESQL = (
    # The words with their places: PostgreSQL's own parser would split and drop words, depending on the locale. And two
    # words that stand for the ranges of 2**14 and 2**17 cases that the case is in: a search asks for newer ones first.
    """
    CREATE OR REPLACE FUNCTION search_vector(words text, seq bigint) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT (
            coalesce(string_agg(word || ':' || least(place, 16383), ' '), '')
            || format(' r14_%s r17_%s', seq >> 14, seq >> 17)
        )::tsvector
        FROM unnest(string_to_array(words, ' ')) WITH ORDINALITY AS parts(word, place) WHERE word <> ''
    $$
    """,
    f"""
    CREATE OR REPLACE FUNCTION tickets_search() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            DELETE FROM search_documents WHERE id {CASE_KEYS.format(seq="OLD.seq")};
        ELSE
            INSERT INTO search_documents(id, internal, words)
            VALUES (NEW.seq << 20, false, search_vector(NEW.search_text, NEW.seq))
            ON CONFLICT (id) DO UPDATE SET words = excluded.words;
        END IF;
        RETURN NULL;
    END $$
    """,  # noqa: S608 - our own literals
    "DROP TRIGGER IF EXISTS tickets_search ON tickets",
    "CREATE TRIGGER tickets_search AFTER INSERT OR DELETE ON tickets FOR EACH ROW EXECUTE FUNCTION tickets_search()",
    "DROP TRIGGER IF EXISTS tickets_search_update ON tickets",
    """
    CREATE TRIGGER tickets_search_update AFTER UPDATE OF search_text ON tickets FOR EACH ROW
    WHEN (OLD.search_text IS DISTINCT FROM NEW.search_text) EXECUTE FUNCTION tickets_search()
    """,
    # Before the rows are filled in, as it would lock the table otherwise. `fastupdate` would leave new words in a list
    # that each search has to read from start to end.
    """
    CREATE INDEX IF NOT EXISTS ix_search_documents_words ON search_documents USING gin (words) WITH (fastupdate = off)
    """,
)
FILL_CASES = {
    "sqlite": """
        INSERT INTO search_documents(id, internal, words)
        SELECT seq << 20, false, search_text FROM tickets WHERE seq BETWEEN :first AND :last
    """,
    "postgresql": """
        INSERT INTO search_documents(id, internal, words)
        SELECT seq << 20, false, search_vector(search_text, seq) FROM tickets WHERE seq BETWEEN :first AND :last
        ON CONFLICT DO NOTHING
    """,
}
# A message's number within its case stands for the version, which is at least as high.
MESSAGES = """
SELECT m.message AS message, m.visibility = 'internal' AS internal, (t.seq << 20) + (
    SELECT count(*) FROM messages AS earlier WHERE earlier.ticket_id = m.ticket_id AND earlier.seq <= m.seq
) AS id
FROM messages AS m JOIN tickets AS t ON t.id = m.ticket_id
WHERE m.has_document AND m.seq BETWEEN :first AND :last
"""
ADD_MESSAGE = {
    "sqlite": "INSERT INTO search_documents(id, internal, words) VALUES (:id, :internal, :words)",
    "postgresql": """
        INSERT INTO search_documents(id, internal, words)
        SELECT CAST(:id AS BIGINT), :internal, search_vector(:words, CAST(:id AS BIGINT) >> 20)
        WHERE EXISTS (SELECT 1 FROM tickets WHERE seq = CAST(:id AS BIGINT) >> 20)
        ON CONFLICT DO NOTHING
    """,
}


def upgrade() -> None:
    postgresql = op.get_context().dialect.name == "postgresql"
    op.create_table(
        "search_documents",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("internal", sa.Boolean, nullable=False),
        sa.Column("words", SEARCH_WORDS, nullable=False),
        if_not_exists=True,
    )
    for statement in POSTGRESQL if postgresql else SQLITE:
        op.execute(statement)
    if not postgresql:
        _fill(op.get_bind())
        return
    with op.get_context().autocommit_block():
        _fill(op.get_bind())
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_tickets_search")


def _fill(connection: sa.Connection) -> None:
    dialect = connection.dialect.name
    for first, last in _ranges(connection, "tickets"):
        connection.execute(sa.text(FILL_CASES[dialect]), {"first": first, "last": last})
    for first, last in _ranges(connection, "messages"):
        rows = connection.execute(sa.text(MESSAGES), {"first": first, "last": last}).all()
        if rows:
            values = [{"id": row.id, "internal": row.internal, "words": search_text(row.message)} for row in rows]
            connection.execute(sa.text(ADD_MESSAGE[dialect]), values)


def _ranges(connection: sa.Connection, table: str) -> list[tuple[int, int]]:
    last = connection.scalar(sa.select(sa.func.max(sa.column("seq"))).select_from(sa.table(table))) or 0
    return [(first, first + BATCH - 1) for first in range(1, last + 1, BATCH)]


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP TRIGGER tickets_search ON tickets")
        op.execute("DROP TRIGGER tickets_search_update ON tickets")
        op.drop_table("search_documents")
        op.execute("DROP FUNCTION tickets_search")
        op.execute("DROP FUNCTION search_vector")
        op.execute("CREATE INDEX ix_tickets_search ON tickets USING gin (to_tsvector('simple', search_text))")
        return
    for trigger in ("insert", "update", "delete"):
        op.execute(f"DROP TRIGGER tickets_search_{trigger}")
    op.execute("DROP TABLE ticket_search")
    op.drop_table("search_documents")
    for statement in EARLIER_SQLITE:
        op.execute(statement)
