"""What watches the service: rules, routes, and the drill that proves them. Run from the repository's root."""
