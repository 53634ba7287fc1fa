"""A service with Redis and its three upstream services."""

from tests.support.timeline.fixtures import redis, services  # noqa: F401 - fixtures
