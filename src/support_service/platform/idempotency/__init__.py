"""Idempotent requests: each has a key and takes effect once; a retry gets the first response."""
