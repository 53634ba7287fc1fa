"""Limits on the number of open streams: of one caller, of one client address, and in total."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from support_service.core.errors import problem
from support_service.guard.unread_answers import ADDRESS_PREFIX
from support_service.platform.settings.process import LimitSettings

RETRY_AFTER_SECONDS = 5  # seconds


class StreamSlots:
    """Counts the open streams of each caller: a principal or a client address."""

    def __init__(self, limits: LimitSettings, count_refusal: Callable[[], None] = lambda: None) -> None:
        self._limits = limits
        self._count_refusal = count_refusal
        self._total = 0
        self._by_caller: Counter[str] = Counter()

    @contextmanager
    def occupy(self, callers: Sequence[str]) -> Iterator[None]:
        """Count a stream of these callers for the duration of a `with` block.

        Raises RateLimited if one of them has as many as it may have, and Unavailable in total.
        """
        for caller in callers:
            is_address = caller.startswith(ADDRESS_PREFIX)
            most = self._limits.streams_per_address if is_address else self._limits.streams_per_principal
            if self._by_caller[caller] >= most:
                whose = "address" if is_address else "principal"
                message = f"One {whose} may have {most} open streams in each replica; close one of yours first."
                self._count_refusal()
                raise problem("too_many_streams", message, retry_after=RETRY_AFTER_SECONDS)
        if self._total >= self._limits.streams:
            self._count_refusal()
            raise problem("overloaded", "The service has as many open streams as it may have; try again later.")
        self._total += 1
        self._by_caller.update(callers)
        try:
            yield
        finally:
            self._total -= 1
            self._by_caller.subtract(callers)
            for caller in callers:
                if not self._by_caller[caller]:
                    del self._by_caller[caller]
