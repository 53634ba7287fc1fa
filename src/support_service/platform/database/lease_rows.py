"""SQL of leases: a lease elects one process, and its fencing token excludes the previous holder."""

import sqlalchemy as sa

from support_service.platform.database import Transaction
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
    row = await tx.fetch_one(
        TAKE_LEASE, {"lease": name, "new_holder": holder, "now": at, "until": until, "latest": latest}
    )
    return row.fence if row else None


async def set_fence(tx: Transaction, name: str, fence: int) -> None:
    """Set a newer fencing token on a lease that this transaction has taken."""
    await tx.execute(SET_FENCE, {"lease": name, "newest": fence})


async def release_lease(tx: Transaction, name: str, holder: str) -> None:
    """Release a lease, if this process holds it."""
    await tx.execute(RELEASE_LEASE, {"lease": name, "new_holder": holder})
