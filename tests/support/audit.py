"""The audit log: sealed and read by tests, or altered past its triggers."""

import sqlalchemy as sa

from support_service.platform.audit import entry_rows, log
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


async def sealed_entries(database):
    """Seal and return every entry."""
    async with database.transaction() as tx:
        await log.seal_all(tx)
    return await entry_rows.read_sealed(database, 0, 100)
