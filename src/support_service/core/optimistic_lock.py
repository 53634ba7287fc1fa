"""Optimistic locking: each change of a resource increments its version, and may require certain versions."""

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from support_service.core.clock import time_after, to_micros
from support_service.core.domain.principals import Principal
from support_service.core.errors import SupportError, problem

ExpectedVersions = Collection[int] | None
"""The versions of a resource that a change accepts; None accepts any."""
MISSING = 0
"""What a resource that does not exist has as its version; versions start at 1."""


class Versioned(Protocol):
    """A resource with a version."""

    @property
    def version(self) -> int:
        """A number that grows with each change."""


def visible_version(principal: Principal, version: int, internal_changes: int) -> int:
    """Return the version of a case that a principal sees: for customers, internal notes and files do not count."""
    return version - internal_changes if principal.reads_only_public else version


def next_time_version(latest: datetime, version: int) -> tuple[datetime, int]:
    """Return the time of the next change of a resource, and its version, which is that time.

    So a version of the time that a restore has undone is not given again.
    """
    at = time_after(latest)
    return at, max(version + 1, to_micros(at))


def check_version(version: int, expected: ExpectedVersions) -> None:
    """Raise VersionConflict if a case's version is not one of the expected versions."""
    if expected is not None and version not in expected:
        raise version_conflict()


def check_resource_version(resource: Versioned | None, expected: ExpectedVersions, code: str, noun: str) -> None:
    """Raise VersionConflict with this code if a resource, which may not exist, has none of the expected versions.

    `noun` names the kind of the resource, such as `macro`.
    """
    if expected is not None and (resource.version if resource else MISSING) not in expected:
        raise resource_conflict(expected, code, noun)


def resource_conflict(expected: Collection[int], code: str, noun: str) -> SupportError:
    """Return the error for a resource that has none of the expected versions; `noun` names its kind."""
    if MISSING in expected:
        return problem(code, f"The {noun} exists already, and `If-None-Match: *` only adds one.")
    return problem(code, f"The {noun} was changed since it was read; read it again and retry.")


def version_conflict() -> SupportError:
    """Return the error for a case that was changed since it was read."""
    return problem("case_changed", "The case was changed since it was read; read it again and retry.")
