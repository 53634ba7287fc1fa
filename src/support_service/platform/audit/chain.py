"""The entries of the audit log and their hash chain, without I/O: what is recorded, hashed and verified.

Each sealed entry has a position, counted from 1 without gaps, and a hash:

    hash = SHA-256(hash of the position before, or 32 zero bytes + JSON of the entry)

The JSON has the members of `_hashed_document` in alphabetical order, no spaces, and is UTF-8. It holds only a digest of
the changes, SHA-256(salt + changes). So the changes can be erased together with their salt, and the chain stays valid.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import pydantic_core

GENESIS = bytes(32)  # the hash before the first entry
SALT_BYTES = 16
CASE_ERASED: Final = "case.erased"
"""The action of an entry that names the positions whose changes were erased."""
DETACHED: Final = "audit.detached"
"""The action of an entry that names the last entry of a segment that was moved out of the database."""

Action = Literal[
    "case.opened",
    "case.imported",
    "case.changed",
    "case.closed",
    "case.reopened",
    "case.deleted",
    "case.split",
    "message.added",
    "attachment.added",
    "attachment.removed",
    "link.added",
    "link.removed",
    "follower.added",
    "follower.removed",
    "override.set",
    "override.removed",
    "view.created",
    "view.changed",
    "view.deleted",
    "macro.created",
    "macro.changed",
    "macro.deleted",
    "customer.created",
    "customer.changed",
    "customer.merged",
    "customer.separated",
    "customer.erased",
    "agent.created",
    "agent.changed",
    "agent.deleted",
    "sla-policy.created",
    "sla-policy.changed",
    "sla-policy.deleted",
    "sla.breached",
    "dead-letter.replayed",
    "dead-letter.dropped",
    "webhook.replayed",
    "webhook.dropped",
    "events.republished",
    "case.erased",
    "retention.run",
    "audit.detached",
    "reports.rebuilt",
    "database.copied",
    "database.restored",
]
# Entries of earlier releases keep the former name, because their hash covers it. The API shows the current one.
FORMER_ACTION_NAMES: dict[Action, str] = {"override.set": "lever.pulled", "override.removed": "lever.released"}
CURRENT_ACTION_NAMES: dict[str, Action] = {former: name for name, former in FORMER_ACTION_NAMES.items()}
MAX_ACTOR_LENGTH = 255  # characters


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The end of the chain: the number of its entries, and the hash of the last one."""

    position: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.position} {self.hash.hex()}"


class StoredAuditEntry(NamedTuple):
    """One change: who did what, and when. The fields after `changes` are set when the entry is sealed."""

    seq: int
    at: datetime
    actor: str
    role: str
    action: str
    case_id: str | None
    request_id: str | None
    changes: str | None  # JSON, {field: [before, after]}; None once erased
    position: int | None = None
    salt: bytes | None = None
    digest: bytes | None = None
    hash: bytes | None = None

    @property
    def head_after(self) -> ChainHead:
        """The end of the chain after this entry, which is sealed."""
        assert self.position is not None and self.hash is not None  # noqa: S101, PT018 - `seal_entry` sets them
        return ChainHead(self.position, self.hash)

    def erased_positions(self) -> list[int]:
        """Return the positions whose changes were erased according to this entry."""
        if self.action != CASE_ERASED or self.changes is None:
            return []
        changes: Mapping[str, Any] = pydantic_core.from_json(self.changes)
        return [int(position) for position in changes["erasedPositions"][1]]

    def detached_head(self) -> ChainHead | None:
        """Return the head up to which entries were detached according to this entry."""
        if self.action != DETACHED or self.changes is None:
            return None
        changes: Mapping[str, Any] = pydantic_core.from_json(self.changes)
        return ChainHead(int(changes["position"][1]), bytes.fromhex(changes["hash"][1]))


def seal_entry(head: ChainHead, entry: StoredAuditEntry, salt: bytes) -> StoredAuditEntry:
    position, digest = head.position + 1, changes_digest(salt, entry.changes or "")
    hash_ = entry_hash(head.hash, entry, position, digest)
    return entry._replace(position=position, salt=salt, digest=digest, hash=hash_)


def changes_digest(salt: bytes, changes: str) -> bytes:
    return hashlib.sha256(salt + changes.encode()).digest()


def entry_hash(before: bytes, entry: StoredAuditEntry, position: int, changes_digest: bytes) -> bytes:
    """Return the hash of an entry at a position, given the hash `before` it."""
    return hashlib.sha256(before + _hashed_document(entry, position, changes_digest)).digest()


def find_flaw(head: ChainHead, entry: StoredAuditEntry) -> str | None:
    """Return why an entry is not a valid successor of the head, or None if it is."""
    if entry.position is None or entry.position != head.position + 1:
        return f"there is no entry at position {head.position + 1}; the next is {entry.position}"
    if entry.digest is None or entry_hash(head.hash, entry, entry.position, entry.digest) != entry.hash:
        return f"the entry at position {entry.position} differs from the sealed one"
    erased = entry.changes is None and entry.salt is None
    if not erased and (
        entry.changes is None or entry.salt is None or changes_digest(entry.salt, entry.changes) != entry.digest
    ):
        return f"the changes at position {entry.position} differ from the sealed ones"
    return None


def _hashed_document(entry: StoredAuditEntry, position: int, changes_digest: bytes) -> bytes:
    return pydantic_core.to_json(
        {
            "action": entry.action,
            "actor": entry.actor,
            "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
            "case": entry.case_id,
            "changes": changes_digest.hex(),
            "position": position,
            "request": entry.request_id,
            "role": entry.role,
        }
    )
