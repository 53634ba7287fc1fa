"""The timeline: what other services know, collected live through a cache, merged with the case's own history."""
