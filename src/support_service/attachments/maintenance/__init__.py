"""Maintenance jobs of stored files: reconcile, scrub, offload, retention."""
