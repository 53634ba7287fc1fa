"""Fixtures: the service with Redis and fake upstream services."""

from tests.support.timeline.fixtures import harness, redis, services, store, timings  # noqa: F401 - fixtures
