"""Brokers, and Redis servers that may be killed."""

from tests.support.events.fixtures import broker  # noqa: F401 - fixtures
