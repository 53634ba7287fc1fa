"""Events: published through an outbox to Redis streams and webhooks, and received from other services."""
