"""Whether a case is synthetic, which SUPPORT_SYNTHETIC_CHANNELS says when it is opened.

NULL in existing cases, and in those of a previous release that still writes: it means what that release says, the
channel `synthetic`. So nothing is filled in.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("tickets", sa.Column("synthetic", sa.Boolean))


def downgrade() -> None:
    op.drop_column("tickets", "synthetic")
