"""Snapshots of the sources' last answers about a case, and their encoding as one cached value: versioned JSON.

The value begins with its revision, so that a cache can compare it with the revision that a writer has seen without
reading the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

import pydantic_core

from support_service.core.domain.references import SourceReferences
from support_service.core.domain.upstream_services import UpstreamService
from support_service.timeline.cache.base import REVISION_PATTERN
from support_service.timeline.merge import Entry

FORMAT_VERSION = 2
DECODE_ERRORS = (ValueError, TypeError, KeyError, AttributeError, OverflowError)  # the errors of `decode`


class Snapshot(NamedTuple):  # a frozen dataclass takes three times as long to create
    """The complete answer of one source, with the time of the request."""

    at: float  # seconds since 1970
    wanted: SourceReferences  # the references asked for; the snapshot is invalid once the case has others
    epoch: int  # the case's epoch; an event that changes a source's data about the case starts a new one
    entries: list[Entry]
    note: str | None = None  # what was left out of an answer that was too long, and whether an id was rejected
    missing: bool = False  # something was not found, and may be created soon


Snapshots = dict[UpstreamService, Snapshot]


@dataclass(frozen=True, slots=True)
class CachedSnapshots:
    """The cached state of a case. An empty revision means that a writer has no stored value to compare with."""

    snapshots: Snapshots = field(default_factory=dict)
    revision: str = ""


def merge_snapshots(one: Mapping[UpstreamService, Snapshot], other: Mapping[UpstreamService, Snapshot]) -> Snapshots:
    """Merge two sets of snapshots: for each source, keep the newest epoch, and within an epoch the latest request."""
    return dict(one) | {
        name: known
        for name, known in other.items()
        if name not in one or (known.epoch, known.at) >= (one[name].epoch, one[name].at)
    }


def newer_snapshots(seen: Mapping[UpstreamService, Snapshot], now: Mapping[UpstreamService, Snapshot]) -> Snapshots:
    """Return the snapshots that another replica stored after `seen`.

    Compared by value, because replica clocks may disagree: a newer snapshot may have an older time.
    """
    return {name: known for name, known in now.items() if known != seen.get(name)}


def cache_key(case_id: str) -> str:
    """Return the cache key of a case's snapshots."""
    return f"support:timeline:{case_id}"


def encode(snapshots: Mapping[UpstreamService, Snapshot]) -> bytes:
    """Return the cached value for the snapshots, with a new revision."""
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
    document = {"revision": uuid4().hex, "version": FORMAT_VERSION, "sources": sources}
    return pydantic_core.to_json(document, inf_nan_mode="null")


def decode(value: bytes) -> CachedSnapshots:
    """Return the snapshots of a cached value, with its revision; no snapshots if it has another version.

    Raises one of DECODE_ERRORS if the value has another form.
    """
    document: dict[str, Any] = pydantic_core.from_json(value)
    # Read the revision in the same way as the cache does, for any version: otherwise a writer could never replace the
    # value of another version.
    found = REVISION_PATTERN.match(value)
    revision = found[1].decode() if found else ""
    if document["version"] != FORMAT_VERSION:
        return CachedSnapshots(revision=revision)
    snapshots = {
        name: Snapshot(
            float(source["at"]),
            SourceReferences(tuple(source["ids"]), tuple(source["ofOrders"])),
            int(source["epoch"]),
            _entries(source["entries"]),
            None if source["note"] is None else str(source["note"]),
            bool(source["missing"]),
        )
        for name, source in document["sources"].items()
    }
    return CachedSnapshots(snapshots, revision)


def _entries(value: object) -> list[Entry]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise TypeError("entries must be a list of objects")
    return value
