"""What a Redis server says of itself: its role, its memory, its eviction policy, and how many keys it has evicted."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from support_service.platform.background import run_every, run_in_background
from support_service.platform.telemetry.stores import RedisServerState

REFRESH_INTERVAL = 30.0  # seconds


class RedisServerMonitor:
    """Reads the state of a server; `state` is None while it is unknown."""

    def __init__(self, client: Any) -> None:
        """`client` is redis-py's asynchronous client, whose types do not say what it returns."""
        self._client = client
        self.state: RedisServerState | None = None

    async def refresh(self) -> None:
        """Read the state again. It stays unknown if the server does not answer, or refuses INFO to the user."""
        try:
            replication: Mapping[str, Any] = await self._client.info("replication")
            memory: Mapping[str, Any] = await self._client.info("memory")
            stats: Mapping[str, Any] = await self._client.info("stats")
            self.state = RedisServerState(
                "master" if replication["role"] == "master" else "replica",
                str(memory["maxmemory_policy"]),
                int(stats["evicted_keys"]),
                int(memory["used_memory"]),
                int(memory["maxmemory"]),
            )
        except Exception:  # noqa: BLE001 - other parts report a server that fails; this only describes one that answers
            self.state = None


@asynccontextmanager
async def monitored_server(
    servers: dict[str, Callable[[], RedisServerState | None]], name: str, client: Any
) -> AsyncIterator[None]:
    """Read the state of a server in the background while the block runs; add it to `servers` under its name."""
    monitor = RedisServerMonitor(client)
    servers[name] = lambda: monitor.state
    reading = run_every(REFRESH_INTERVAL, monitor.refresh, "Reading the state of Redis", first=0.0)
    async with run_in_background(reading):
        yield
