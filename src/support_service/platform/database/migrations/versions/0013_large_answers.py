"""Name the caller of each large stored response, so that the bytes that are stored for one caller can be bounded."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

TABLE = "idempotency_keys"
COLUMN = "large_response_of"


def upgrade() -> None:
    op.add_column(TABLE, sa.Column(COLUMN, sa.String(64)))
    op.create_index(f"ix_{TABLE}_{COLUMN}", TABLE, [COLUMN])


def downgrade() -> None:
    op.drop_index(f"ix_{TABLE}_{COLUMN}", TABLE)
    op.drop_column(TABLE, COLUMN)
