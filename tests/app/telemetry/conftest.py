"""Fixtures: an OTLP receiver."""

from tests.support.telemetry.fixtures import sink  # noqa: F401 - fixtures
