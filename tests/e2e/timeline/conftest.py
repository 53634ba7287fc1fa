"""Fixtures: the service with Redis and fake upstream services."""

from tests.support.timeline.fixtures import redis, services  # noqa: F401 - fixtures
