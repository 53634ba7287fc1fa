"""Brokers, and Redis servers that may be killed; receivers of webhooks and of spans."""

from tests.support.events.fixtures import broker  # noqa: F401 - fixtures
from tests.support.events.webhooks import endpoint  # noqa: F401 - fixtures
from tests.support.telemetry.fixtures import otlp_receiver  # noqa: F401 - fixtures
