"""What a Redis server says of itself, for summaries of the alerts on its errors."""

from observability import thresholds as t


def redis_cause(server: str) -> str:
    """Return the part of a summary that names why a server, `cache` or `events`, refuses changes, or nothing."""
    own = f'server="{server}"'
    replica = f'max by (server) (support_redis_role{{{own},role="replica"}}) == 1'
    full = (
        f"max by (server) (support_redis_memory_usage_bytes{{{own}}})"
        f" / (max by (server) (support_redis_memory_limit_bytes{{{own}}}) > 0) > {t.REDIS_FULL_SHARE}"
    )
    causes = ((replica, "its server is a replica, which refuses changes"), (full, "its memory is full"))
    return "".join(f"{{{{ range query `{query}` }}}}: {cause}{{{{ end }}}}" for query, cause in causes)
