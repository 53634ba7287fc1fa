"""The service with up to a million cases: bulk load, and the time of each call at two sizes."""
