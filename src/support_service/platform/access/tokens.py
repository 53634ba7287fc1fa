"""Verification of tokens from a file, which may change while the service runs."""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from support_service.core.clock import utc_now
from support_service.core.domain.principals import Principal
from support_service.core.errors import Unauthenticated, Unavailable
from support_service.platform.access.timings import AccessTimings
from support_service.platform.access.token_file import read_token_file
from support_service.platform.background import run_every, run_in_background
from support_service.platform.telemetry.logs import outage_logger

log = logging.getLogger(__name__)


def hash_token(token: str) -> str:
    """Return the hash that identifies a token in the file, in hex."""
    return sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class _Credential:
    sha256: str
    caller: Principal
    expires: datetime | None


class FileTokenVerifier:
    """A verifier of the tokens in a file. While the file is invalid, the tokens that were read last stay valid."""

    def __init__(
        self,
        path: Path,
        now: Callable[[], datetime] = utc_now,
        timings: AccessTimings = AccessTimings(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._now = now
        self._timings = timings
        self._credentials: dict[str, _Credential] = {}
        self._loaded_stamp: tuple[int, ...] = ()
        self._last_error = ""
        self._checked_at = clock()  # when the file was last read, or found to be unchanged
        self._clock = clock
        self._background = AsyncExitStack()

    @property
    def age(self) -> float:
        """Seconds since the file was last read or found to be unchanged."""
        return self._clock() - self._checked_at

    @property
    def fault(self) -> str | None:
        return "tokens_unavailable" if self._last_error else None

    async def open(self) -> None:
        """Read the file, and start to check it for changes. Raises Unavailable if it cannot be loaded."""
        await asyncio.to_thread(self._load)
        checks = run_every(self._timings.token_file_check_interval, self.reload_if_changed, "Checking the token file")
        await self._background.enter_async_context(run_in_background(checks))

    async def close(self) -> None:
        """Stop checking the file for changes."""
        await self._background.aclose()

    async def verify(self, token: str) -> Principal:
        """Return the caller of a token. Raises Unauthenticated for an unknown, revoked or expired token."""
        digest = hash_token(token)
        credential = self._credentials.get(digest)
        # The time of the lookup depends on hashes, which an attacker cannot choose; the comparison takes constant time.
        if credential is None or not hmac.compare_digest(credential.sha256, digest):
            raise Unauthenticated("token_invalid", "The token is unknown or revoked.")
        if credential.expires is not None and credential.expires <= self._now():
            raise Unauthenticated("token_expired", "The token has expired; request a new one.")
        return credential.caller

    async def reload_if_changed(self) -> None:
        """Read the file again if it changed."""
        await asyncio.to_thread(self._reload_if_changed)

    def _reload_if_changed(self) -> None:
        try:
            if self._stamp() != self._loaded_stamp:
                self._load()
                log.info("The token file changed; it has %d tokens that are not revoked", len(self._credentials))
            self._last_error = ""
            self._checked_at = self._clock()
        except (OSError, Unavailable) as failure:
            outage_logger("tokens_unavailable").error("%s; the tokens read before stay valid", failure)
            self._last_error = str(failure)

    def _load(self) -> None:
        try:
            stamp = self._stamp()
        except OSError:
            stamp = ()  # `read` raises with the reason
        entries = [entry for entry in read_token_file(self._path) if entry.revoked is None]
        self._credentials = {
            entry.sha256: _Credential(
                entry.sha256, Principal(entry.name, entry.role, entry.subject, frozenset(entry.teams)), entry.expires
            )
            for entry in entries
        }
        self._loaded_stamp = stamp  # taken before the read, so that a change during the read is read again

    def _stamp(self) -> tuple[int, ...]:
        found = self._path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
