"""Routes and endpoints: how a handler becomes a route, and a route the function that serves requests."""
