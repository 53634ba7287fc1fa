"""Where a JWKS comes from: a file, or an address that may be slow, wrong, hostile or down."""

import asyncio
import re
from pathlib import Path
from typing import Protocol

import aiohttp

MOST_BYTES = 1024 * 1024
PATIENCE = 5.0  # seconds for the whole answer


class SourceFault(Exception):
    """The document can't be had; says why."""


class Source(Protocol):
    """Gives the document with the keys."""

    async def open(self) -> None:
        """Make ready."""

    async def close(self) -> None:
        """Let go of what `open` took."""

    async def read(self) -> bytes:
        """The document as it is now; raises SourceFault."""


def source(place: str, patience: float = PATIENCE) -> Source:
    """The source at an address or a path."""
    return Address(place, patience) if re.match(r"https?://", place) else File(Path(place))


class File:
    """A document on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def read(self) -> bytes:
        """The file's content; raises SourceFault."""
        try:
            return await asyncio.to_thread(self._path.read_bytes)
        except OSError as failure:
            raise SourceFault(str(failure.strerror)) from failure


class Address:
    """A document at an HTTP address. Redirects are not followed: the address that was configured is the one trusted."""

    def __init__(self, url: str, patience: float) -> None:
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=patience)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the client."""
        self._session = aiohttp.ClientSession(timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar())

    async def close(self) -> None:
        """Close the client."""
        if self._session is not None:
            await self._session.close()

    async def read(self) -> bytes:
        """The answer's body, of at most MOST_BYTES; raises SourceFault."""
        assert self._session is not None  # noqa: S101 - `open` comes first
        headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
        try:
            async with self._session.get(self._url, allow_redirects=False, headers=headers) as response:
                if response.status != 200:  # noqa: PLR2004 - HTTP's OK
                    raise SourceFault(f"the answer is {response.status}")
                body = bytearray()
                async for block in response.content.iter_any():
                    body += block
                    if len(body) > MOST_BYTES:
                        response.close()
                        raise SourceFault(f"the answer has more than {MOST_BYTES} bytes")
                return bytes(body)
        except TimeoutError as failure:
            raise SourceFault(f"no answer within {self._timeout.total:g} s") from failure
        except (aiohttp.ClientError, OSError) as failure:
            raise SourceFault(f"{type(failure).__name__}: {' '.join(str(failure).split())}") from failure
