"""Fixtures: telemetry backends and a workload."""

from tests.support.telemetry.fixtures import otlp_receiver, port, serve, session, victoria_metrics, workload  # noqa: F401 - fixtures
