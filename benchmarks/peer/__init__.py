"""A support-case service as a FastAPI user would write it: a peer of the service for comparison.

It has the measured routes and their data. It has no accounts, limits, events, audit log, idempotency keys or traces.
"""
