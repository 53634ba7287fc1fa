"""Fixtures: an OTLP receiver."""

from tests.support.telemetry.fixtures import otlp_receiver  # noqa: F401 - fixtures
