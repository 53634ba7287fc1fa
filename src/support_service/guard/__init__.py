"""HTTP layer independent of features: connections and their limits, admission, JSON bodies, uploads, problem+json."""
