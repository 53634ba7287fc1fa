"""The offset of this process's clock from the clock of the database."""

import time

import sqlalchemy as sa

from support_service.core.errors import Unavailable
from support_service.platform.database.protocols import Reader

_NOW = sa.text("SELECT extract(epoch FROM clock_timestamp())::float AS now")


class ClockOffset:
    """The offset in seconds, positive if this clock is ahead; None while it is unknown.

    On SQLite, whose clock is this one, `read` is never called, and the offset is 0.
    """

    def __init__(self, database: Reader) -> None:
        self._database = database
        self.seconds: float | None = None

    async def refresh(self) -> None:
        """Read the database's clock; the answer is as old as half of the round trip. Keeps the last if it fails."""
        sent = time.time()
        try:
            row = await self._database.fetch_one(_NOW)
        except Unavailable:
            return
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        self.seconds = (sent + time.time()) / 2 - row.now
