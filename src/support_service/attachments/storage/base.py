"""The interface of attachment storages. Disk and object store share one contract test."""

import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import uuid4

from support_service.core.errors import Unavailable

# The first two characters of a key. Files are spread over 256 folders, so that none grows too large to list.
SHARDS = [f"{shard:02x}" for shard in range(256)]

KEY_PATTERN = re.compile(r"[0-9a-f]{2}/[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that was stored durably; `size` is in bytes, `sha256` in hex."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file in a storage's listing; `size` is in bytes."""

    key: str
    size: int
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class ResponseHeaders:
    """The HTTP headers of a file that its storage serves directly: Content-Type and Content-Disposition."""

    content_type: str
    disposition: str


class AttachmentStorage(Protocol):
    """Stores files under generated keys. Each method raises Unavailable while the storage can't be reached."""

    name: str

    async def open(self) -> None:
        """Prepare the storage for uploads. Raises Unavailable if its location can't be used."""

    async def close(self) -> None:
        """Wait for writes in progress and release resources."""

    async def put(
        self,
        chunks: AsyncIterator[bytes],
        *,
        key: str | None = None,
        size_hint: int = 0,
        response_headers: ResponseHeaders | None = None,
    ) -> StoredFile:
        """Store a stream of bytes in bounded memory, and hash and count it; the file is durable when this returns.

        `key` is a new key by default. A stream that ends early (an error, a client that disconnects, a cancelled task)
        leaves nothing behind. Raises InsufficientStorage if the storage is full, and before the first byte is
        read if there is not enough space for `size_hint` bytes (0 if unknown).
        """

    def read(self, key: str, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """Yield `length` bytes from `offset` in blocks. Raises Unavailable if the file is missing or too short."""

    async def stat(self, key: str) -> FileInfo | None:
        """Return the file under a key; None if there is none."""

    def list(self, prefix: str = "") -> AsyncIterator[FileInfo]:
        """Yield every complete file in the order of keys.

        With `prefix`, which starts with one of SHARDS, yield only files whose key starts with it.
        """

    async def delete(self, key: str) -> None:
        """Delete a file. Deleting a missing file is not an error."""

    async def delete_unfinished(self, before: datetime, *, dry_run: bool = False) -> int:
        """Delete unfinished uploads that have not changed since `before`, or only count them. Return how many."""

    async def presigned_url(self, key: str, seconds: int) -> str | None:
        """Return a URL that serves the bytes to any client for `seconds`; None if the storage can't serve files."""

    def free(self) -> int | None:
        """Return the free space in bytes; None if the storage has no limit. Blocking call."""


def new_key() -> str:
    """Return a new, unique key."""
    name = uuid4().hex
    return f"{name[:2]}/{name}"


async def sha256_of(storage: AttachmentStorage, key: str, size: int) -> str:
    """Read a file of `size` bytes and return its SHA-256 in hex. Raises Unavailable if it is missing or too short."""
    digest = hashlib.sha256()
    async for block in storage.read(key, 0, size):
        digest.update(block)
    return digest.hexdigest()


def unreadable_error(reason: str) -> Unavailable:
    """Return the error of every storage for missing or truncated files."""
    return Unavailable("attachment_unreadable", reason)
