"""What each source last said of a case, and the one cached value that holds it: versioned JSON.

The value begins with a revision of its own, so that a cache can tell whether it is still the one that a writer has seen
without reading the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

import pydantic_core

from support_service.core.references import Service, Wanted
from support_service.timeline.cache.memory import REVISION
from support_service.timeline.merge import Entry

VERSION = 2
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OverflowError)  # what `decode` raises


class Snapshot(NamedTuple):  # a frozen dataclass takes three times as long to make
    """One source's whole answer, and when it was asked for."""

    at: float  # seconds since the epoch
    wanted: Wanted  # once the case wants something else, the snapshot answers it no more
    epoch: int  # of the case; an event that changes what a source knows of the case begins a new one
    entries: list[Entry]
    note: str | None = None  # what was left out, where the answer was too long
    missing: bool = False  # something was not there, which may change soon


Snapshots = dict[Service, Snapshot]


@dataclass(frozen=True, slots=True)
class Cached:
    """What the cache holds of a case; without a revision it holds nothing that a writer must mind."""

    snapshots: Snapshots = field(default_factory=dict)
    revision: str = ""


def newest(one: Mapping[Service, Snapshot], other: Mapping[Service, Snapshot]) -> Snapshots:
    """Of each source the snapshot of the newest epoch, and of one epoch that which was asked for last."""
    return dict(one) | {
        name: known
        for name, known in other.items()
        if name not in one or (known.epoch, known.at) >= (one[name].epoch, one[name].at)
    }


def arrived(seen: Mapping[Service, Snapshot], now: Mapping[Service, Snapshot]) -> Snapshots:
    """Those that someone has kept since then: by its clock, which may be behind, such a one may look the older."""
    return {name: known for name, known in now.items() if known != seen.get(name)}


def key(case_id: str) -> str:
    """Where a case's snapshots are cached."""
    return f"support:timeline:{case_id}"


def encode(snapshots: Mapping[Service, Snapshot]) -> bytes:
    """The cached value."""
    sources = {
        name: {
            "at": known.at,
            "ids": known.wanted.ids,
            "ofOrders": known.wanted.of_orders,
            "epoch": known.epoch,
            "note": known.note,
            "missing": known.missing,
            "entries": known.entries,
        }
        for name, known in snapshots.items()
    }
    document = {"revision": uuid4().hex, "version": VERSION, "sources": sources}
    return pydantic_core.to_json(document, inf_nan_mode="null")


def decode(value: bytes) -> Cached:
    """The snapshots in a cached value, none in another version's; raises UNREADABLE where it is no value of ours."""
    document: dict[str, Any] = pydantic_core.from_json(value)
    # As the cache reads it, whatever else the value says: or a writer could never replace another version's value.
    found = REVISION.match(value)
    revision = found[1].decode() if found else ""
    if document["version"] != VERSION:
        return Cached(revision=revision)
    snapshots = {
        name: Snapshot(
            float(source["at"]),
            Wanted(tuple(source["ids"]), tuple(source["ofOrders"])),
            int(source["epoch"]),
            _entries(source["entries"]),
            None if source["note"] is None else str(source["note"]),
            bool(source["missing"]),
        )
        for name, source in document["sources"].items()
    }
    return Cached(snapshots, revision)


def _entries(value: object) -> list[Entry]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise TypeError("entries must be a list of objects")
    return value
