"""Fixtures: telemetry backends and a workload."""

from tests.support.telemetry.fixtures import port, serve, session, sink, victoria, work  # noqa: F401 - fixtures
