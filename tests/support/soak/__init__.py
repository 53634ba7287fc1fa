"""A soak: load on a whole deployment for a long time, and figures that must not grow."""
