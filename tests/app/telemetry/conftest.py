"""Backends of telemetry, and a workload."""

from tests.support.telemetry.fixtures import sink  # noqa: F401 - fixtures
