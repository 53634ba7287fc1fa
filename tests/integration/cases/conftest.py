"""Fixtures: cases that are stored past the service, and metrics without one."""

from tests.support.cases import add_cases, own_metrics  # noqa: F401 - fixtures
