"""Clients of the order, payment and fulfillment services."""
