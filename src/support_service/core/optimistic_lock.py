"""Optimistic locking of cases: each change increments the version, and a change may require certain versions."""

from collections.abc import Collection

from support_service.core.domain.principals import Principal
from support_service.core.errors import VersionConflict

ExpectedVersions = Collection[int] | None
"""The versions of a case that a change accepts; None accepts any."""


def visible_version(principal: Principal, version: int, internal_changes: int) -> int:
    """Return the version of a case that a principal sees: for customers, internal notes and files do not count."""
    return version if principal.may_see_visibility("internal") else version - internal_changes


def expect_version(version: int, expected: ExpectedVersions) -> None:
    """Raise VersionConflict if a case's version is not one of the expected versions."""
    if expected is not None and version not in expected:
        raise version_conflict()


def version_conflict() -> VersionConflict:
    """Return the error for a case that was changed since it was read."""
    return VersionConflict("case_changed", "The case was changed since it was read; read it again and retry.")
