"""A Redis that keeps its data."""

from tests.support.events.fixtures import durable_redis  # noqa: F401 - a fixture
