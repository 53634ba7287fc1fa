"""What a storage of attachments can do, be it a disk or an object store: one contract, one shared test."""

import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import uuid4

from support_service.core.errors import Unavailable

SHARDS = [f"{shard:02x}" for shard in range(256)]  # what keys begin with, so that no folder grows too large to list

KEY = re.compile(r"[0-9a-f]{2}/[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is safely kept; `sha256` is in hex."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Found:
    """A file as a storage lists it."""

    key: str
    size: int
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Label:
    """What a storage that serves files by itself says of one."""

    content_type: str
    disposition: str


class AttachmentStorage(Protocol):
    """Keeps files under generated keys. Each method raises Unavailable while the storage is out of reach."""

    name: str

    async def open(self) -> None:
        """Make ready what every upload needs; raises Unavailable for a place that can't be used."""

    async def close(self) -> None:
        """Let what is nearly done be finished."""

    async def put(
        self, chunks: AsyncIterator[bytes], *, key: str | None = None, expected: int = 0, label: Label | None = None
    ) -> Stored:
        """Keep a stream of bytes, hashed and counted on the way, in bounded memory; durable once this returns.

        Whatever ends the stream early (an error, a client that leaves, a cancelled task) leaves nothing behind. Raises
        OutOfSpace where there is no room, be it for the `expected` bytes before the first one is taken.
        """

    def read(self, key: str, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """The bytes from an offset on, block by block; raises Unavailable where the file is missing or too short."""

    async def stat(self, key: str) -> Found | None:
        """What there is under a key."""

    def list(self, prefix: str = "") -> AsyncIterator[Found]:
        """Every whole file whose key begins with a prefix of SHARDS, or every one, in the order of their keys."""

    async def delete(self, key: str) -> None:
        """Delete a file; one that is gone already is no error."""

    async def sweep_unfinished(self, before: datetime, *, dry_run: bool = False) -> int:
        """Remove what uploads left unfinished that nobody has touched since; returns how many."""

    async def link(self, key: str, seconds: int) -> str | None:
        """An address that gives the bytes to whoever has it, for some seconds; None where there is no such thing."""

    def free(self) -> int | None:
        """Bytes that still fit; None where there is no such limit. Blocks."""


def new_key() -> str:
    """A key that nothing else has."""
    name = uuid4().hex
    return f"{name[:2]}/{name}"


async def sha256_of(storage: AttachmentStorage, key: str, size: int) -> str:
    """The hash of the bytes as they are read back, in hex; raises Unavailable where there are not as many."""
    digest = hashlib.sha256()
    async for block in storage.read(key, 0, size):
        digest.update(block)
    return digest.hexdigest()


def unreadable(reason: str) -> Unavailable:
    """What every storage says of bytes that should be there."""
    return Unavailable("attachment_unreadable", reason)
