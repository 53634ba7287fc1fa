"""Snapshots of the sources' answers, cached in the process or in Redis."""
