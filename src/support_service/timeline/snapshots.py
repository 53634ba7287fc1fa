"""What each source last said of a case, and the one cached value that holds it: versioned JSON.

The value begins with the time of the question, so that a cache can tell which of two values is the later one without
reading the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pydantic_core

from support_service.references import Service, Wanted
from support_service.timeline.merge import Entry

VERSION = 2
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OverflowError)  # what `decode` raises


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One source's whole answer, and when it was asked for."""

    at: float  # seconds since the epoch
    wanted: Wanted  # once the case wants something else, the snapshot answers it no more
    epoch: int  # of the case; an event that changes what a source knows of the case begins a new one
    entries: list[Entry]
    note: str | None = None  # what was left out, where the answer was too long
    missing: bool = False  # something was not there, which may change soon


def key(case_id: str) -> str:
    """Where a case's snapshots are cached."""
    return f"support:timeline:{case_id}"


def encode(asked: float, snapshots: Mapping[Service, Snapshot]) -> bytes:
    """The cached value; `asked` is when the newest of the snapshots was asked for."""
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
    return pydantic_core.to_json({"asked": asked, "version": VERSION, "sources": sources}, inf_nan_mode="null")


def decode(value: bytes) -> dict[Service, Snapshot]:
    """The snapshots in a cached value, none in another version's; raises UNREADABLE where it is no value of ours."""
    document: dict[str, Any] = pydantic_core.from_json(value)
    if document["version"] != VERSION:
        return {}
    return {
        name: Snapshot(
            float(source["at"]),
            Wanted(tuple(source["ids"]), tuple(source["ofOrders"])),
            int(source["epoch"]),
            _entries(source["entries"]),
            source["note"],
            bool(source["missing"]),
        )
        for name, source in document["sources"].items()
    }


def _entries(value: object) -> list[Entry]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise TypeError("entries must be a list of objects")
    return value
