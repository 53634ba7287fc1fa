"""Versions of cases: each change gives a case its next one, and a change may be meant for certain ones alone."""

from collections.abc import Collection

from support_service.core.errors import Outdated

Versions = Collection[int] | None
"""The versions of a case that a change is meant for; None means any."""


def expect_version(version: int, expected: Versions) -> None:
    """Raise Outdated where a case has none of the versions that a change is meant for."""
    if expected is not None and version not in expected:
        raise Outdated("case_changed", "The case was changed since it was read; read it again, and decide anew.")
