"""Callers of the last minutes: how many are served and how many are refused, and a log line that names the refused.

A share of requests does not tell whether people are stopped. One client that repeats a request with an expired token
can be most of them. No token is stored, only a hash that no other process can compute.
"""

import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import inf

from support_service.core.errors import Forbidden, SupportError
from support_service.platform.access.timings import CallerTimings
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec, Observations

log = logging.getLogger(__name__)

UNKNOWN = "an unknown caller"
MAX_CALLERS = 20_000  # of each kind; further ones do not count
MAX_LINES = 20  # log lines in an interval, each about another caller
REPEATED = 2  # refusals; a client that then gets a new token is refused once, and one that guesses, once for each token
# Problem codes of requests whose caller is not served until the caller or an operator does something.
REFUSED_CODES = frozenset({"token_invalid", "token_expired", "tokens_unavailable", "keys_unavailable"})

ACCESS_CALLERS = InstrumentSpec(
    "support.access.callers",
    "gauge",
    "{caller}",
    "Callers of the last 5 minutes except the probe. accepted: by name. refused: tokens that were refused at least "
    "twice. writing: accepted callers that tried to change something. forbidden: callers whose changes were answered "
    "with 403 at least twice. No values with SUPPORT_AUTH=open",
    {"outcome": ("accepted", "refused", "writing", "forbidden")},
)


@dataclass(slots=True)
class _Caller:
    """One caller, or one refused token; `unlogged` are its requests since its last line."""

    name: str
    at: float
    number: int = 0
    unlogged: int = 0
    logged_at: float = -inf


class Callers:
    """The callers of this replica. Memory and log lines are bounded for any number of callers and tokens."""

    def __init__(
        self,
        instruments: Instruments,
        timings: CallerTimings = CallerTimings(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._window, self._line_interval = timings.window, timings.line_interval
        self._clock = clock
        self._accepted: dict[Hashable, _Caller] = {}  # by the hash of the token
        self._refused: dict[Hashable, _Caller] = {}  # by the hash of the token
        self._writing: dict[Hashable, _Caller] = {}  # by name
        self._forbidden: dict[Hashable, _Caller] = {}  # by name
        self._lines_from, self._lines = -inf, 0
        instruments.observe(ACCESS_CALLERS, self._observe)

    def note_accepted(self, credential: str, name: str, *, writes: bool) -> None:
        """Note a request of an authenticated caller; `credential` is its token, or the secret of its session."""
        self._note(self._accepted, hash(credential), name)
        if writes:
            self._note(self._writing, name, name)

    def note_refused(self, credential: str, refusal: SupportError, address: str) -> None:
        """Note a request whose token or session was refused. Other refusals do not count."""
        if refusal.code in REFUSED_CODES:
            key = hash(credential)
            known = self._accepted.pop(key, None)
            caller = self._note(self._refused, key, known.name if known else refusal.caller or UNKNOWN)
            self._log(caller, "Requests", address, refusal.code)

    def note_forbidden(self, credential: str, name: str | None, refusal: Forbidden, address: str) -> None:
        """Note a change that its caller may not make; without a name it was refused before the token was read."""
        known = self._accepted.get(hash(credential))
        name = name or (known.name if known else None)
        key = name or hash(credential)
        self._note(self._writing, key, name or UNKNOWN)
        self._log(self._note(self._forbidden, key, name or UNKNOWN), "Changes", address, refusal.code)

    def _note(self, seen: dict[Hashable, _Caller], key: Hashable, name: str) -> _Caller:
        now = self._clock()
        caller = seen.get(key)
        if caller is None or caller.at <= now - self._window:
            caller = _Caller(name, now)
            if len(seen) >= MAX_CALLERS:
                for old in [old for old, each in seen.items() if each.at <= now - self._window]:
                    del seen[old]
            if len(seen) < MAX_CALLERS:
                seen[key] = caller
        elif caller.name == UNKNOWN:  # its token was refused before this replica had read the token's caller
            caller.name = name
        caller.at = now
        caller.number += 1
        caller.unlogged += 1
        return caller

    def _log(self, caller: _Caller, what: str, address: str, code: str) -> None:
        now = self._clock()
        if caller.number < REPEATED or now < caller.logged_at + self._line_interval:
            return
        if now >= self._lines_from + self._line_interval:
            self._lines_from, self._lines = now, 0
        if self._lines < MAX_LINES:
            log.warning(
                "%s of %s from %s are refused: %s (%d since the last such line)",
                *(what, caller.name, address, code, caller.unlogged),
            )
            self._lines += 1
            caller.logged_at, caller.unlogged = now, 0

    def _observe(self) -> Observations:
        """Return the number of callers of each kind. Metric readers call this in threads of their own."""
        since = self._clock() - self._window

        def names(seen: dict[Hashable, _Caller], least: int = 1) -> list[str]:
            return [each.name for each in [*seen.values()] if each.at > since and each.number >= least]

        return [
            (len({*names(self._accepted)}), {"outcome": "accepted"}),
            (len(names(self._refused, REPEATED)), {"outcome": "refused"}),
            (len(names(self._writing)), {"outcome": "writing"}),
            (len(names(self._forbidden, REPEATED)), {"outcome": "forbidden"}),
        ]
