"""Fixtures: the case service."""

from tests.support.cases import service  # noqa: F401 - a fixture
