"""Overload protection: fewer requests while the event loop lags, and a limit on the requests in progress."""

from typing import Literal

# Late checks in a row before requests are refused; a garbage collection or a slow disk causes only one.
LATE_CHECKS_BEFORE_SHEDDING = 4
MIN_SHARE = 1 / 16  # minimum share of requests admitted; without any, the end of the overload would go unnoticed
SHARE_STEP = 1 / 8  # share of requests that is added at each check that is not late

RejectionReason = Literal["lag", "requests"]


class LoadShedder:
    """An overload limiter that admits a share of the requests, and halves it when the event loop stays late.

    The share grows while the lag is at most half the allowed lag. Between half and the whole of it the share does not
    change, so that it does not oscillate.
    """

    def __init__(self, max_lag: float, max_requests: int) -> None:
        """Set the limits.

        `max_lag` is the allowed lag of the event loop in consecutive checks, in s; 0 disables it. `max_requests` is
        the number of requests in progress.
        """
        self._max_lag = max_lag
        self._max_requests = max_requests
        self._late_checks = 0
        self._share = 1.0
        self._credit = 0.0

    def record_lag(self, lag: float) -> None:
        """Adjust the share to the current lag of the event loop, in s."""
        if not self._max_lag:
            return
        self._late_checks = self._late_checks + 1 if lag > self._max_lag else 0
        if self._late_checks >= LATE_CHECKS_BEFORE_SHEDDING:
            self._share = max(MIN_SHARE, self._share / 2)
        elif lag <= self._max_lag / 2:
            self._share = min(1.0, self._share + SHARE_STEP)

    def rejection_reason(self, in_progress: int) -> RejectionReason | None:
        """Return why a request is refused, or None. `in_progress` includes this request."""
        if in_progress > self._max_requests:
            return "requests"
        if self._share < 1.0:
            self._credit += self._share
            if self._credit < 1.0:
                return "lag"
            self._credit -= 1.0
        return None
