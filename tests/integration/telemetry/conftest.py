"""Fixtures: a workload."""

from tests.support.telemetry.fixtures import workload  # noqa: F401 - fixtures
