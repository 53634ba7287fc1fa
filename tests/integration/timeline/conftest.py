"""A service with Redis and its three upstream services."""

from tests.support.timeline.fixtures import redis, services, store, timings, world  # noqa: F401 - fixtures
