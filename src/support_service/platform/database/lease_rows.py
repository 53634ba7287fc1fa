"""SQL of leases: a lease elects one process, and its fencing token excludes the previous holder."""

import time

import sqlalchemy as sa

from support_service.core.ids import new_id
from support_service.platform.database import Database, Transaction
from support_service.platform.database.tables import leases

TAKE_LEASE = (
    leases.update()
    .where(
        leases.c.name == sa.bindparam("lease"),
        sa.or_(
            leases.c.holder == sa.bindparam("new_holder"),
            leases.c.expires_at < sa.bindparam("now"),
            leases.c.expires_at > sa.bindparam("latest", type_=sa.BigInteger),
        ),
    )
    .values(
        # The clock serves as fencing token: it stays ahead of the token in Redis even if the database is recreated.
        fence=sa.case(
            (leases.c.holder == sa.bindparam("new_holder"), leases.c.fence),
            (leases.c.fence >= sa.bindparam("now"), leases.c.fence + 1),
            else_=sa.bindparam("now", type_=sa.BigInteger),
        ),
        holder=sa.bindparam("new_holder"),
        expires_at=sa.bindparam("until"),
    )
    .returning(leases.c.fence)
)
SET_FENCE = leases.update().where(leases.c.name == sa.bindparam("lease")).values(fence=sa.bindparam("newest"))
RELEASE_LEASE = (
    leases.update()
    .where(leases.c.name == sa.bindparam("lease"), leases.c.holder == sa.bindparam("new_holder"))
    .values(holder="", expires_at=0)
)


async def take_lease(
    tx: Transaction, name: str, holder: str, *, now: float, duration: float, max_clock_skew: float
) -> int | None:
    """Take or renew a lease from `now`, in Unix time, for some seconds.

    Return its fencing token, or None if another process holds it. A lease that ends more than `max_clock_skew` seconds
    after the new one would is taken over: its holder's clock was wrong.
    """
    at = round(now * 1000)
    until = at + round(duration * 1000)
    latest = until + round(max_clock_skew * 1000)
    row = await tx.fetch_now(
        TAKE_LEASE, {"lease": name, "new_holder": holder, "now": at, "until": until, "latest": latest}
    )
    return row.fence if row else None


async def set_fence(tx: Transaction, name: str, fence: int) -> None:
    """Set a newer fencing token on a lease that this transaction has taken."""
    await tx.execute(SET_FENCE, {"lease": name, "newest": fence})


async def release_lease(tx: Transaction, name: str, holder: str) -> None:
    await tx.execute(RELEASE_LEASE, {"lease": name, "new_holder": holder})


class JobLease:
    """The lease of a job that one replica does at a time."""

    def __init__(self, database: Database, name: str, duration: float, max_clock_skew: float) -> None:
        self._database = database
        self._name = name
        self._duration = duration
        self._max_clock_skew = max_clock_skew
        self._holder = new_id()
        self._was_taken = False

    async def take(self) -> bool:
        """Take or renew the lease. Return False if another replica holds it, or if it has expired meanwhile."""
        ends_at = time.monotonic() + self._duration
        async with self._database.transaction() as tx:
            fence = await take_lease(
                tx,
                self._name,
                self._holder,
                now=time.time(),
                duration=self._duration,
                max_clock_skew=self._max_clock_skew,
            )
        self._was_taken |= fence is not None
        return fence is not None and time.monotonic() < ends_at

    async def release(self) -> None:
        """Release the lease if this replica holds it, so that another one goes on at once."""
        if self._was_taken:
            async with self._database.transaction() as tx:
                await release_lease(tx, self._name, self._holder)
