"""Brokers, and Redis servers that may be killed."""

from tests.support.events.fixtures import short_lease  # noqa: F401 - fixtures
