"""Fixtures: a workload."""

from tests.support.telemetry.fixtures import work  # noqa: F401 - fixtures
