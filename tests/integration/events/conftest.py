"""Brokers, and Redis servers that may be killed."""

from tests.support.events.fixtures import broker, short_lease  # noqa: F401 - fixtures
