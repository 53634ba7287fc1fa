"""The timeline: entries fetched from upstream services through a cache, merged with the case's own history."""
