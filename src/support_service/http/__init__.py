"""aiohttp plumbing that knows no feature: connections and their limits, admission, bodies, uploads, problem+json."""
