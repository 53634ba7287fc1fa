"""Events: published through an outbox to streams and webhooks, and received from other services."""
