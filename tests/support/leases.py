"""Leases of jobs that exclude nobody."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support_service.platform.database.lease_rows import JobLease


@contextmanager
def all_hold_the_lease() -> Iterator[None]:
    """Let every replica believe to hold the lease of a job, as after a stall of the machine."""

    async def take(_: JobLease) -> bool:
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JobLease, "take", take)
        yield
