"""Connection limits: connections in total and per address, and the time that each may wait for its client.

One check of all connections, at least every second, replaces a timer for each. So requests have no extra cost.
"""

import asyncio
import gc
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from heapq import nsmallest
from typing import Literal, Protocol

from aiohttp import web

from support_service.limits.addresses import UNKNOWN, Proxies, counted
from support_service.telemetry.instruments import Reading

SHARE = 4  # one address may have a quarter of the connections
AT_ONCE = 64  # a search for idle connections closes up to 1/64 of the limit, and so admits as many new connections
SEARCH_EVERY = 0.1  # seconds, if the last search found no idle connection
LOOK_EVERY = 1.0  # seconds
GROWN = 500  # connections opened since the last freeze; a full collection needs 20 ms to walk over them
LOOKED_AT = 500  # connections between two pauses; without pauses, the check would delay requests

Cut = Literal["full", "share", "idle", "head", "unread"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Connection limits.

    Timeouts are in seconds: reading headers, keep-alive idle, client not reading the response.
    """

    connections: int
    header_timeout: float
    idle_timeout: float
    send_timeout: float


class Guest(Protocol):
    """The interface of a connection that the limits use."""

    def idle_since(self) -> float | None:
        """Return the loop time at which the connection became idle, or None while a request is in progress."""

    def overdue(self, now: float, bounds: Bounds) -> Literal["head", "unread"] | None:
        """Return what the client has delayed for too long, or None."""

    def cut(self) -> None:
        """Close the connection immediately."""


class _Room:
    """Connections that count against the same limit."""

    def __init__(self, places: int) -> None:
        self.guests: set[Guest] = set()
        self.places = places
        self.search_after = 0.0

    def longest_idle(self, now: float) -> list[Guest]:
        """Return the connections that have been idle for the longest, or none if all are busy."""
        if now < self.search_after:
            return []
        idle = [(since, id(guest), guest) for guest in self.guests if (since := guest.idle_since()) is not None]
        if not idle:
            self.search_after = now + SEARCH_EVERY
        return [guest for *_, guest in nsmallest(max(1, self.places // AT_ONCE), idle)]


class Crowd:
    """Open connections and their limits. At a limit, the connections that have been idle the longest are closed."""

    def __init__(self, bounds: Bounds, proxies: Proxies, count: Callable[[Cut], None]) -> None:
        self.bounds = bounds
        self._proxies = proxies
        self._count = count
        self._everyone = _Room(bounds.connections)
        self._rooms: dict[str, _Room] = {}
        self._frozen = 0  # connections at the last freeze, which full collections skip
        self._places: dict[Guest, str] = {}  # the client address of each; empty for trusted proxies

    @property
    def guests(self) -> AbstractSet[Guest]:
        """The open connections."""
        return self._everyone.guests

    @property
    def addresses(self) -> AbstractSet[str]:
        """The client addresses that have an open connection. Trusted proxies share the empty address."""
        return self._rooms.keys()

    def beside(self, places: int) -> "Crowd":
        """Return separate limits with their own number of connections, the same timeouts and the same counters."""
        return Crowd(replace(self.bounds, connections=places), self._proxies, self._count)

    def enter(self, guest: Guest, peer: str | None, now: float) -> bool:
        """Register a connection. Return False if it must be closed because a limit is reached.

        A trusted proxy carries the connections of many clients, so the limit per address does not apply to it.
        """
        address = "" if self._proxies.trusts(peer) else counted(peer or UNKNOWN)
        room = self._rooms.get(address) or _Room(max(1, self.bounds.connections // SHARE))
        if address and not self._has_place(room, now):
            self._count("share")
            return False
        if not self._has_place(self._everyone, now):
            self._count("full")
            return False
        self._places[guest] = address
        self._everyone.guests.add(guest)
        self._rooms[address] = room  # closing its last connection may just have removed it
        room.guests.add(guest)
        return True

    def leave(self, guest: Guest) -> None:
        """Unregister a connection that has ended."""
        if guest not in self._places:
            return
        address = self._places.pop(guest)
        self._everyone.guests.discard(guest)
        room = self._rooms[address]
        room.guests.discard(guest)
        if not room.guests:
            del self._rooms[address]

    async def watch(self) -> None:
        """Close every connection whose client exceeds a timeout, until cancelled."""
        bounds = self.bounds
        loop = asyncio.get_running_loop()
        pause = min(LOOK_EVERY, bounds.header_timeout / 4, bounds.send_timeout / 4)
        while True:
            await asyncio.sleep(pause)
            self.spare_collections()
            for number, guest in enumerate(tuple(self.guests)):
                if number % LOOKED_AT == LOOKED_AT - 1:
                    await asyncio.sleep(0)
                reason = guest.overdue(loop.time(), bounds)
                if reason is not None and guest in self._places:
                    self._end(guest, reason)

    def spare_collections(self) -> None:
        """Exclude many connections from full garbage collections.

        A walk over 10,000 connections blocks the event loop for 0.4 s, and frees nothing. Connections that end are
        freed immediately, except reference cycles that their errors created. These are collected once, when half of
        the connections have ended.
        """
        there = len(self.guests)
        if there >= self._frozen + GROWN:
            gc.freeze()
            self._frozen = there
        elif self._frozen >= GROWN and there < self._frozen / 2:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._frozen = there

    def open(self) -> Reading:
        """Return the number of open connections, as a metric reading."""
        return [(len(self.guests), {})]

    def _has_place(self, room: _Room, now: float) -> bool:
        if len(room.guests) >= room.places:
            for guest in room.longest_idle(now):
                self._end(guest, "idle")
        return len(room.guests) < room.places

    def _end(self, guest: Guest, reason: Cut) -> None:
        self._count(reason)
        self.leave(guest)
        guest.cut()


CROWD = web.AppKey("crowd", Crowd)
