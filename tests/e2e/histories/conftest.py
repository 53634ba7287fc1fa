"""Fixtures of histories."""

from tests.support.events.webhooks import endpoint  # noqa: F401 - a fixture
