"""Brokers, and Redis servers that may be killed."""

from tests.support.events.fixtures import broker, durable_redis  # noqa: F401 - fixtures
