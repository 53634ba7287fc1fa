"""Delays between attempts."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays with jitter, in seconds."""

    first: float
    maximum: float

    def delay(self, failures: int) -> float:
        """Return the delay after the given number of consecutive failures."""
        return min(self.maximum, self.first * 2.0 ** min(failures - 1, 16)) * random.uniform(0.5, 1)
