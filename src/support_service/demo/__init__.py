"""The service with simulated upstream services and sample cases, for a first try."""
