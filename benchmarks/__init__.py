"""Benchmarks: the cost of a request, as a multiple of the least cost of a server on the same routes."""
