"""The audit log, altered past its triggers."""

import sqlalchemy as sa

from tests.support.service import service_of


async def alter_audit_log(client, statement):
    """Change the audit log in a way that its triggers prevent."""
    async with service_of(client).database.transaction() as tx:
        rows = await tx.fetch_all(
            sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_log'")
        )
        for row in rows:
            await tx.execute(sa.text(f"DROP TRIGGER {row.name}"))
        await tx.execute(statement)
