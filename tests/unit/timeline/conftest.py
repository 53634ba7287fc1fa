"""Fixtures: the service with Redis and fake upstream services."""

from tests.support.timeline.fixtures import redis, services, store  # noqa: F401 - fixtures
