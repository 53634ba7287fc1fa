"""Fixtures: the case service."""

from tests.support.reports import service  # noqa: F401 - a fixture
