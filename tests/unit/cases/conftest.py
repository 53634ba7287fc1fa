"""Fixtures: cases that are stored past the service."""

from tests.support.cases import add_cases  # noqa: F401 - fixtures
