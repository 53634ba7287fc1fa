"""Erasures of a customer as the command makes them, with timings for a busy machine."""

from support_service.commands.runtime import open_maintenance
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from support_service.privacy.erasure import CustomerErasure, ErasureTimings
from tests.support.calls import GENEROUS_TIMEOUT

PATIENT_ERASURE = ErasureTimings(
    redis_timeout=GENEROUS_TIMEOUT,
    relay_timeout=GENEROUS_TIMEOUT,
    files_timeout=GENEROUS_TIMEOUT,
    collecting=0.0,
    answers_timeout=GENEROUS_TIMEOUT,
)


async def erase_customer(settings, customer, timings=PATIENT_ERASURE, *, all_identities=False, instruments=None):
    """Erase what a service with these settings stores of a customer; return the receipt."""
    async with open_maintenance(settings) as opened:
        parts = opened.database, opened.garbage_collector, instruments or opened.instruments, timings
        return await CustomerErasure(settings, *parts).run(SYSTEM_ORIGIN, customer, all_identities=all_identities)
