"""Monitoring of the service: rules, routes, and the drill that tests them. Run from the repository's root."""
