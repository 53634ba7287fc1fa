"""A service with Redis and its three upstream services."""

from tests.support.timeline.fixtures import _frequent_recovery_attempts, redis, services  # noqa: F401 - fixtures
