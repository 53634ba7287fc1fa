"""HTTP API: one module per resource, the route table, authentication and idempotency."""
