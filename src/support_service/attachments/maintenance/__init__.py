"""Jobs that keep stored files in order: reconcile, scrub, offload, retention, garbage collection."""
