"""Deletions of many rows, in small transactions."""

from collections.abc import Awaitable, Callable

from support_service.platform.database.protocols import Database, Transaction


async def delete_in_batches(
    database: Database, delete: Callable[[Transaction], Awaitable[int]], batch_size: int
) -> None:
    """Run `delete` in one transaction after another, until it deletes fewer than `batch_size` rows.

    Small transactions do not block other writers for long.
    """
    deleted = batch_size
    while deleted == batch_size:
        async with database.transaction() as tx:
            deleted = await delete(tx)
