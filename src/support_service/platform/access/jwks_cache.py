"""A cache of the issuer's public keys, refreshed in the background and when a token names an unknown key.

An issuer that is down, slow or returns an invalid document changes nothing: the cached keys stay, whatever their age.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from joserfc.jwk import Key

from support_service.core.errors import Unavailable
from support_service.platform.access.key_source import KeySource, KeySourceError
from support_service.platform.access.keys import KeySet, parse_key_set
from support_service.platform.access.timings import JwksTimings
from support_service.platform.background import run_in_background
from support_service.platform.telemetry.logs import outage_logger

log = logging.getLogger(__name__)


class JwksCache:
    """A cache of public keys, which calls `changed` whenever the keys differ from those before."""

    def __init__(
        self,
        source: KeySource,
        changed: Callable[[], Any],
        *,
        required: bool,
        clock: Callable[[], float] = time.monotonic,
        timings: JwksTimings = JwksTimings(),
    ) -> None:
        self._source = source
        self._changed = changed
        self._required = required
        self._clock = clock
        self._timings = timings
        self._keys: KeySet | None = None
        self._read_at = clock()  # when the keys were last read
        self._next_unknown_key_refresh = clock()  # when an unknown key may next cause a refresh
        self._refreshing: asyncio.Task[None] | None = None
        self._last_error = ""
        self._background = AsyncExitStack()

    @property
    def age(self) -> float:
        """Seconds since the keys were last read, or since the start if they never were."""
        return self._clock() - self._read_at

    @property
    def fault(self) -> str | None:
        """The problem code of the last attempt to read the keys, or None if it succeeded."""
        return "keys_unavailable" if self._last_error else None

    async def open(self) -> None:
        """Read the keys, and start to refresh them in the background.

        Raises Unavailable if keys are required and cannot be loaded.
        """
        await self._source.open()
        self._background.push_async_callback(self._source.close)
        await self.refresh()
        if self._required and not self._keys:
            await self.close()
            reason = self._last_error or "it contains no usable key"
            raise Unavailable("keys_unavailable", f"SUPPORT_JWT_KEYS can't be loaded: {reason}")
        await self._background.enter_async_context(run_in_background(self._refresh_periodically()))

    async def close(self) -> None:
        """Stop refreshing the keys, and close the source."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})
        await self._background.aclose()

    async def find(self, key_id: str | None, algorithm: str) -> Key | None:
        """Return the key that may have signed with this key id and algorithm, or None.

        An unknown key causes a refresh, at most once per `unknown_key_interval`. Raises Unavailable if no keys were
        ever read.
        """
        found = self._keys.find(key_id, algorithm) if self._keys is not None else None
        if found is None and (self._refreshing is not None or self._clock() >= self._next_unknown_key_refresh):
            if self._refreshing is None:
                self._next_unknown_key_refresh = self._clock() + self._timings.unknown_key_interval
            await self.refresh()
            found = self._keys.find(key_id, algorithm) if self._keys is not None else None
        if self._keys is None:
            raise Unavailable(
                "keys_unavailable", "The keys that verify tokens can't be loaded at present; try again later."
            )
        return found

    async def refresh(self) -> None:
        """Read the keys again. Concurrent callers share one read; a failure is logged."""
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._read())
            self._refreshing.add_done_callback(self._clear_refreshing)
        await asyncio.wait({self._refreshing})

    def _clear_refreshing(self, _: asyncio.Task[None]) -> None:
        self._refreshing = None

    async def _read(self) -> None:
        try:
            document = await self._source.read()
            keys = await asyncio.to_thread(parse_key_set, document)
        except (KeySourceError, ValueError) as failure:
            reason = str(failure) if isinstance(failure, KeySourceError) else f"it can't be parsed: {failure}"
            outage_logger("keys_unavailable").error("SUPPORT_JWT_KEYS can't be loaded: %s", reason)
            self._last_error = reason
            return
        self._last_error = ""
        self._read_at = self._clock()
        if self._keys is None or self._keys.fingerprints != keys.fingerprints:
            self._keys = keys
            self._changed()
            log.log(logging.INFO if keys else logging.ERROR, "SUPPORT_JWT_KEYS has %d usable keys", len(keys))

    async def _refresh_periodically(self) -> None:
        while True:
            await asyncio.sleep(self._timings.retry_interval if self._last_error else self._timings.refresh_interval)
            await self.refresh()
