"""What staff know of customers: names, contacts, notes, and which ids are of one person."""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import JSON_VALUE, SORTED_TEXT, UtcDateTime

revision = "0056"
down_revision = "0055"


def upgrade() -> None:
    op.create_table(
        "customers",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(128)),
        sa.Column("contacts", JSON_VALUE, nullable=False),
        sa.Column("notes", sa.Text),
        sa.Column("merged_into", sa.String(36)),
        sa.Column("person", sa.String(36)),
        sa.Column("person_name", sa.String(128)),
        sa.Column("audit_id", sa.String(36), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    of_several = sa.text("person IS NOT NULL")
    op.create_index(
        "ix_customers_person", "customers", ["person"], postgresql_where=of_several, sqlite_where=of_several
    )
    op.create_table(
        "customer_terms",
        sa.Column("customer_id", sa.String(36), sa.ForeignKey("customers.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("term", SORTED_TEXT, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_customer_terms_term_customer_id", "customer_terms", ["term", "customer_id"])


def downgrade() -> None:
    op.drop_table("customer_terms")
    op.drop_table("customers")
