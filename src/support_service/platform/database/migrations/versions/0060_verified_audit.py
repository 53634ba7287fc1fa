"""The regular verification of the audit log stores how far it has come.

The previous release does not verify regularly, and goes on as before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0060"
down_revision = "0059"


def upgrade() -> None:
    op.add_column("audit_head", sa.Column("verified_position", sa.BigInteger))


def downgrade() -> None:
    op.drop_column("audit_head", "verified_position")
