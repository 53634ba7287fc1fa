"""The interface of attachment storages. Disk and object store share one contract test."""

import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from uuid import uuid4

from support_service.core.errors import SupportError, Unavailable, problem
from support_service.platform.telemetry.instruments import InstrumentSpec

# The first two characters of a key. Files are spread over 256 folders, so that none grows too large to list.
SHARDS = [f"{shard:02x}" for shard in range(256)]

FileFault = Literal["missing", "damaged"]
StorageOutcome = Literal[
    "ok",
    "not_found",
    "slow_down",  # the server is overloaded, or limits the calls of this caller
    "denied",  # the credentials are wrong, or lack a right
    "expired",  # the credentials were valid
    "no_bucket",
    "full",  # the disk, or the quota of the bucket
    "disk",  # the folder can't be used
    "timeout",
    "unreachable",
    "server_error",
    "wrong_bytes",  # the bytes differ from the stored ones
    "other",
]

Operation = Literal["put", "read", "list", "delete"]
OPERATIONS: tuple[Operation, ...] = ("put", "read", "list", "delete")
CALL_OUTCOMES: tuple[StorageOutcome, ...] = (
    *("ok", "not_found", "slow_down", "denied", "expired", "no_bucket", "full"),
    *("timeout", "unreachable", "server_error", "wrong_bytes", "other"),
)
S3_CALLS = InstrumentSpec(
    "support.s3.calls",
    "counter",
    "{call}",
    "Calls of S3 by what S3 answered; a repeated call counts each time. A file of 5 MiB or more is one put, and a page "
    "of a list one list",
    {"operation": OPERATIONS, "outcome": CALL_OUTCOMES},
    seeded=False,  # without S3 there are no series
)
S3_REPEATS = InstrumentSpec(
    "support.s3.repeats",
    "counter",
    "{call}",
    "Calls of S3 that were repeated after a failure; a failed call that was not repeated has failed for its caller",
    {"operation": OPERATIONS},
    seeded=False,
)

KEY_PATTERN = re.compile(r"[0-9a-f]{2}/[0-9a-f]{32}")

STORAGES = ("local", "s3")


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


class UnreadableFile(Unavailable):
    """A stored file that is missing, or that is not as it was stored (`damaged`)."""

    def __init__(self, fault: FileFault, reason: str) -> None:
        super().__init__("attachment_unreadable", reason)
        self.fault: FileFault = fault


def storage_unavailable(outcome: StorageOutcome, detail: str) -> SupportError:
    """Return the error of a storage that can't be used. Its reason is what the storage answered."""
    return problem("storage_unavailable", detail, reason=outcome)


def check_size(actual: int, size: int | None) -> None:
    """Raise UnreadableFile if a file of `actual` bytes was to have `size` bytes; None accepts any size."""
    if size is not None and actual != size:
        raise UnreadableFile("damaged", f"The file has {actual} bytes instead of {size}.")


class AttachmentStorage(Protocol):
    """Stores files under generated keys. Each method raises Unavailable while the storage can't be reached."""

    name: str
    reads_back: bool  # whether an upload must be read back, because its bytes may change on the way to the storage

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
        leaves nothing behind. Raises Unavailable if the storage is full. It is raised before the first byte is
        read if there is not enough space for `size_hint` bytes (0 if unknown).
        """

    def read(self, key: str, offset: int, length: int, *, size: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield `length` bytes from `offset` in blocks.

        Raises UnreadableFile if the file is missing, is too short or, with `size`, does not have that many bytes.
        """

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

    async def presigned_url(self, key: str, size: int, seconds: int) -> str | None:
        """Return a URL that serves a file of `size` bytes to any client for `seconds`.

        None if the storage can't serve files, or does not have this file in this size.
        """

    def free_bytes(self) -> int | None:
        """Return the free space in bytes; None if the storage has no limit. Blocking call."""

    def free_inodes(self) -> float | None:
        """Return the free share of the inodes; None if their number has no limit. Blocking call."""

    def volume_number(self) -> int | None:
        """Return a number that names the volume, the same for each process that has it; None of a bucket. Blocking."""

    def disk_bytes(self) -> int | None:
        """Return the size of its disk in bytes; None if the storage has no limit. Blocking call."""


def new_key() -> str:
    """Return a new, unique key."""
    name = uuid4().hex
    return f"{name[:2]}/{name}"


async def read_verified(storage: AttachmentStorage, key: str, size: int, sha256: str) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a whole file in blocks, the last one only if the SHA-256 of all is `sha256` (hex).

    So a client never takes changed bytes for the whole file. Raises UnreadableFile if the file is missing, or has
    another size or hash.
    """
    digest, last = hashlib.sha256(), b""
    async with aclosing(storage.read(key, 0, size, size=size)) as blocks:
        async for block in blocks:
            if last:
                yield last
            digest.update(block)
            last = block
    if (found := digest.hexdigest()) != sha256:
        raise UnreadableFile("damaged", f"Its bytes have SHA-256 {found} instead of {sha256}.")
    if last:
        yield last


async def verify_file(storage: AttachmentStorage, key: str, size: int, sha256: str) -> None:
    """Read a whole file. Raises UnreadableFile if it is missing, or has another size or SHA-256 (hex)."""
    async for _ in read_verified(storage, key, size, sha256):
        pass
