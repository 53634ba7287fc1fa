"""HTTP API: one module per resource with its handlers, their routes, and the documents that describe them."""
