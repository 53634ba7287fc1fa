"""Fixtures: a workload, and a receiver of OTLP."""

from tests.support.telemetry.fixtures import otlp_receiver, workload  # noqa: F401 - fixtures
