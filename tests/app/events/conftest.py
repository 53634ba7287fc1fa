"""An endpoint that receives webhooks."""

from tests.support.events.webhooks import endpoint  # noqa: F401 - fixtures
