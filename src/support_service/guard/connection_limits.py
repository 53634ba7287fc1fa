"""Connection limits: connections in total and per address, and the time that each may wait for its client.

One check of all connections, at least every second, replaces a timer for each. So requests have no extra cost.
"""

import asyncio
import gc
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from heapq import nsmallest
from typing import Literal, Protocol

from support_service.guard.addresses import UNKNOWN_ADDRESS, TrustedProxies, rate_limit_address
from support_service.platform.settings.process import LimitSettings
from support_service.platform.telemetry.instruments import InstrumentSpec, Observations

ADDRESS_SHARE_DIVISOR = 4  # one address may have a quarter of the connections
# A search for idle connections closes up to 1/64 of the limit, and so admits as many new connections.
EVICTION_DIVISOR = 64
FREEZE_THRESHOLD = 500  # connections opened since the last freeze; a full collection needs 20 ms to walk over them

DelayReason = Literal["head", "unread", "slow"]
CloseReason = Literal["full", "share", "idle", "head", "unread", "slow"]

CONNECTION_OPEN = InstrumentSpec("support.connection.open", "observed sum", "{connection}", "Connections of clients")
CONNECTION_CUT = InstrumentSpec(
    "support.connection.cut",
    "counter",
    "{connection}",
    "Refused connections: full (limit reached and no idle connection), share (the same for one address). Closed "
    "connections: idle (for a new one), head (headers came too late), unread (response was not read), slow "
    "(response was read below the minimum rate)",
    {"reason": ("full", "share", "idle", "head", "unread", "slow")},
)


EVICTION_RETRY_INTERVAL = 0.1  # seconds, if the last search found no idle connection


@dataclass(frozen=True, slots=True)
class ConnectionTimings:
    """Times in seconds, and sizes."""

    head_timeout: float = 10.0  # to receive the head of a request
    idle_timeout: float = 75.0  # between two requests
    send_timeout: float = 30.0  # that a client may leave its answer unread
    send_rate: float = 1024.0  # bytes per second that a client must read of its answer, averaged over `send_timeout`
    check_interval: float = 1.0  # between checks of timeouts
    checks_per_pause: int = 500  # connections between two pauses; without pauses, a check would delay requests
    rest_time: float = 0.5  # of waiting for the short rest of a body before its answer
    lingering_pause: float = 2.0  # without data of a client that has been told that its connection closes
    lingering_time: float = 30.0  # in total of discarding the data of such a client, so that it sees its answer
    lingering_bytes: int = 256 * 1024 * 1024  # of that data at most


class LimitedConnection(Protocol):
    """The interface of a connection that the limits use."""

    def idle_since(self) -> float | None:
        """Return the loop time at which the connection became idle, or None while a request is in progress."""

    def exceeded_timeout(self, now: float, timings: ConnectionTimings) -> DelayReason | None:
        """Return what the client has delayed for too long, or None."""

    def abort(self) -> None:
        """Close the connection immediately."""


class _ConnectionGroup:
    """Connections that count against the same limit."""

    def __init__(self, limit: int) -> None:
        self.connections: set[LimitedConnection] = set()
        self.limit = limit
        self.search_after = 0.0

    def longest_idle(self, now: float) -> list[LimitedConnection]:
        """Return the connections that have been idle for the longest, or none if all are busy."""
        if now < self.search_after:
            return []
        idle = [
            (since, id(connection), connection)
            for connection in self.connections
            if (since := connection.idle_since()) is not None
        ]
        if not idle:
            self.search_after = now + EVICTION_RETRY_INTERVAL
        return [connection for *_, connection in nsmallest(max(1, self.limit // EVICTION_DIVISOR), idle)]


class ConnectionLimits:
    """Open connections and their limits. At a limit, the connections that have been idle the longest are closed."""

    def __init__(
        self,
        settings: LimitSettings,
        proxies: TrustedProxies,
        count: Callable[[CloseReason], None],
        timings: ConnectionTimings = ConnectionTimings(),
    ) -> None:
        self.settings = settings
        self.timings = timings
        self._proxies = proxies
        self._count = count
        self._all = _ConnectionGroup(settings.connections)
        self._by_address: dict[str, _ConnectionGroup] = {}
        self._frozen = 0  # connections at the last freeze, which full collections skip
        self._address_of: dict[LimitedConnection, str] = {}  # the client address of each; empty for trusted proxies

    @property
    def connections(self) -> AbstractSet[LimitedConnection]:
        """The open connections."""
        return self._all.connections

    @property
    def addresses(self) -> AbstractSet[str]:
        """The client addresses that have an open connection. Trusted proxies share the empty address."""
        return self._by_address.keys()

    def are_used_since(self, time: float) -> bool:
        """Return whether a connection is idle whose last request was answered after a loop time."""
        return any((since := each.idle_since()) is not None and since > time for each in self.connections)

    def with_limit(self, limit: int) -> "ConnectionLimits":
        """Return separate limits with their own number of connections, the same timeouts and the same counters."""
        return ConnectionLimits(
            self.settings.model_copy(update={"connections": limit}), self._proxies, self._count, self.timings
        )

    def add(self, connection: LimitedConnection, peer: str | None, now: float) -> bool:
        """Register a connection. Return False if it must be closed because a limit is reached.

        A trusted proxy carries the connections of many clients, so the limit per address does not apply to it.
        """
        address = "" if self._proxies.trusts(peer) else rate_limit_address(peer or UNKNOWN_ADDRESS)
        group = self._by_address.get(address) or _ConnectionGroup(
            max(1, self.settings.connections // ADDRESS_SHARE_DIVISOR)
        )
        if address and not self._make_room(group, now):
            self._count("share")
            return False
        if not self._make_room(self._all, now):
            self._count("full")
            return False
        self._address_of[connection] = address
        self._all.connections.add(connection)
        self._by_address[address] = group  # closing its last connection may just have removed it
        group.connections.add(connection)
        return True

    def remove(self, connection: LimitedConnection) -> None:
        """Unregister a connection that has ended."""
        if connection not in self._address_of:
            return
        address = self._address_of.pop(connection)
        self._all.connections.discard(connection)
        group = self._by_address[address]
        group.connections.discard(connection)
        if not group.connections:
            del self._by_address[address]

    async def enforce_timeouts(self) -> None:
        """Close every connection whose client exceeds a timeout, until cancelled."""
        timings = self.timings
        pause = min(timings.check_interval, timings.head_timeout / 4, timings.send_timeout / 4)
        while True:
            await asyncio.sleep(pause)
            self.update_gc_freeze()
            await self._check_timeouts()

    async def _check_timeouts(self) -> None:
        """Close the connections that exceed a timeout. No connection is referred to after that."""
        loop, checks_per_pause = asyncio.get_running_loop(), self.timings.checks_per_pause
        for number, connection in enumerate(tuple(self.connections)):
            if number % checks_per_pause == checks_per_pause - 1:
                await asyncio.sleep(0)
            reason = connection.exceeded_timeout(loop.time(), self.timings)
            if reason is not None and connection in self._address_of:
                self._close(connection, reason)

    def update_gc_freeze(self) -> None:
        """Exclude many connections from full garbage collections.

        A walk over 10,000 connections blocks the event loop for 0.4 s, and frees nothing: a connection that ends is
        freed immediately. But all reference cycles in memory at that time are excluded too, whatever created them. They
        are collected once, when half of the connections have ended.
        """
        open_now = len(self.connections)
        if open_now >= self._frozen + FREEZE_THRESHOLD:
            gc.freeze()
            self._frozen = open_now
        elif self._frozen >= FREEZE_THRESHOLD and open_now < self._frozen / 2:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._frozen = open_now

    def observe_open(self) -> Observations:
        """Return the number of open connections, as a metric reading."""
        return [(len(self.connections), {})]

    def _make_room(self, group: _ConnectionGroup, now: float) -> bool:
        if len(group.connections) >= group.limit:
            for connection in group.longest_idle(now):
                self._close(connection, "idle")
        return len(group.connections) < group.limit

    def _close(self, connection: LimitedConnection, reason: CloseReason) -> None:
        self._count(reason)
        self.remove(connection)
        connection.abort()
