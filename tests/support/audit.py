"""The audit log, altered past its triggers."""

import sqlalchemy as sa

from support_service.platform.database.component import DATABASE


async def alter_audit_log(client, statement):
    """Change the audit log in a way that its triggers prevent."""
    async with client.app[DATABASE].transaction() as tx:
        rows = await tx.fetch_all(
            sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_log'")
        )
        for row in rows:
            await tx.execute(sa.text(f"DROP TRIGGER {row.name}"))
        await tx.execute(statement)
