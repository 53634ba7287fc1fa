"""The service with simulated neighbours and sample cases, for a first look."""
