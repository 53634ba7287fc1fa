"""Fixtures: a client of the service, without waiting between attempts."""

from tests.support.client.fixtures import answering, api  # noqa: F401 - fixtures
