"""How much work is taken on: less while the event loop is late, and never more than so many requests at a time."""

from typing import Literal

LOOKS = 4  # late ones in a row before work is refused: a collection or a slow disk is late once
LEAST = 1 / 16  # of the requests that are let in, or nobody would ever know that it is over
MORE = 1 / 8  # of the requests that are let in again at each look that is not late

Reason = Literal["lag", "requests"]


class Overload:
    """Lets in a share of the requests: halved at each look at which the loop is late, grown back where it is not.

    Between half the allowed lag and all of it the share stays as it is, so that it does not swing.
    """

    def __init__(self, most_lag: float, most_requests: int) -> None:
        """`most_lag`, in s, is how late the event loop may be, look after look; 0 is no bound."""
        self._most_lag = most_lag
        self._most_requests = most_requests
        self._late = 0
        self._share = 1.0
        self._credit = 0.0

    def note(self, lag: float) -> None:
        """Look at how late the loop is, in s."""
        if not self._most_lag:
            return
        self._late = self._late + 1 if lag > self._most_lag else 0
        if self._late >= LOOKS:
            self._share = max(LEAST, self._share / 2)
        elif lag <= self._most_lag / 2:
            self._share = min(1.0, self._share + MORE)

    def refuses(self, working: int) -> Reason | None:
        """Why a request is not let in where so many are in work, itself among them; None where it is."""
        if working > self._most_requests:
            return "requests"
        if self._share < 1.0:
            self._credit += self._share
            if self._credit < 1.0:
                return "lag"
            self._credit -= 1.0
        return None
