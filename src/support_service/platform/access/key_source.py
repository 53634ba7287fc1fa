"""Sources of a JWKS: a file, or an HTTP server that may be slow, wrong, hostile or down."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import aiohttp

from support_service.platform.http_client import LimitedConnector, describe_client_error

MAX_JWKS_BYTES = 1024 * 1024
HTTP_TIMEOUT = 5.0  # seconds for the whole response


class KeySourceError(Exception):
    """The document cannot be loaded; the message gives the reason."""


class KeySource(Protocol):
    """The interface of sources of the document with the keys."""

    async def open(self) -> None:
        """Acquire the resources for reading."""

    async def close(self) -> None:
        """Release the resources that `open` acquired."""

    async def read(self) -> bytes:
        """Return the current document. Raises KeySourceError."""


def create_key_source(
    location: str, timeout: float = HTTP_TIMEOUT, trace_configs: Sequence[aiohttp.TraceConfig] = ()
) -> KeySource:
    """Return the source for an HTTP URL or a file path; `timeout` in seconds and `trace_configs` are for HTTP."""
    return (
        HttpKeySource(location, timeout, trace_configs)
        if re.match(r"https?://", location)
        else FileKeySource(Path(location))
    )


class FileKeySource:
    """A source that reads a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def read(self) -> bytes:
        """Return the file's content. Raises KeySourceError."""
        try:
            return await asyncio.to_thread(self._path.read_bytes)
        except OSError as failure:
            raise KeySourceError(f"{self._path}: {failure.strerror}") from failure


class HttpKeySource:
    """A source that reads an HTTP URL. It follows no redirects, because only the configured URL is trusted."""

    def __init__(self, url: str, timeout: float, trace_configs: Sequence[aiohttp.TraceConfig] = ()) -> None:
        self._url = url
        self._trace_configs = list(trace_configs)
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Create the HTTP client."""
        self._session = aiohttp.ClientSession(
            connector=LimitedConnector(),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=self._trace_configs,
        )

    async def close(self) -> None:
        """Close the HTTP client."""
        if self._session is not None:  # pragma: no branch - else it was never opened
            await self._session.close()

    async def read(self) -> bytes:
        """Return the response body, of at most MAX_JWKS_BYTES. Raises KeySourceError."""
        assert self._session is not None  # noqa: S101 - callers call `open` first
        headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
        try:
            async with self._session.get(self._url, allow_redirects=False, headers=headers) as response:
                if response.status != 200:  # noqa: PLR2004 - HTTP's OK
                    raise KeySourceError(f"the response has status {response.status}")
                body = bytearray()
                async for block in response.content.iter_any():
                    body += block
                    if len(body) > MAX_JWKS_BYTES:
                        response.close()
                        raise KeySourceError(f"the response has more than {MAX_JWKS_BYTES} bytes")
                return bytes(body)
        except TimeoutError as failure:
            raise KeySourceError(f"no response within {self._timeout.total:g} s") from failure
        except (aiohttp.ClientError, OSError) as failure:
            raise KeySourceError(describe_client_error(failure)) from failure
