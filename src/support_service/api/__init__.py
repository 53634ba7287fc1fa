"""The HTTP API: one file per resource, the table of routes, and what every endpoint does with a request."""
