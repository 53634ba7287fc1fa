"""Optimistic locking of cases: each change increments the version, and a change may require certain versions."""

from collections.abc import Collection

from support_service.core.errors import VersionConflict

ExpectedVersions = Collection[int] | None
"""The versions of a case that a change accepts; None accepts any."""


def expect_version(version: int, expected: ExpectedVersions) -> None:
    """Raise VersionConflict if a case's version is not one of the expected versions."""
    if expected is not None and version not in expected:
        raise VersionConflict("case_changed", "The case was changed since it was read; read it again and retry.")
