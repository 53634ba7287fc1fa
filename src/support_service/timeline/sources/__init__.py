"""Clients of the upstream services: order, payment and fulfillment."""
