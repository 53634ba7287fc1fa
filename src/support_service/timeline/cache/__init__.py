"""Cached snapshots of the sources' answers, in process memory or in Redis."""
