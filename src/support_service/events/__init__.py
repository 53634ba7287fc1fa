"""Events: what other services tell this one, and what this one tells them."""
