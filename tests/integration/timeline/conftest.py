"""Fixtures: a service with Redis and fake upstream services, which the tests of a module share."""

from tests.support.timeline.fixtures import redis  # noqa: F401 - fixtures
from tests.support.timeline.shared import harness, services, store, timeline_client, upstreams  # noqa: F401 - fixtures
