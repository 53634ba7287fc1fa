"""Every open connection: how many there may be, how many of one address, and how long each may keep us waiting.

One look at all of them every second stands for a timer for each: a request costs none of this anything.
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

SHARE = 4  # one address may have a quarter of the places
AT_ONCE = 64  # a search for idle connections finds a sixty-fourth of them, and serves so many that come
SEARCH_EVERY = 0.1  # seconds, where the last search found nobody idle
LOOK_EVERY = 1.0  # seconds
GROWN = 500  # connections more than the last time: what a full collection walks over meanwhile takes it 20 ms
LOOKED_AT = 500  # connections between two pauses, or the look would hold up requests

Cut = Literal["full", "share", "idle", "head", "unread"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections there may be, and seconds: for a request's head, between requests, without any taking."""

    connections: int
    header_timeout: float
    idle_timeout: float
    send_timeout: float


class Guest(Protocol):
    """A connection, as far as it matters here."""

    def idle_since(self) -> float | None:
        """Since when it has nothing in work; None while it has."""

    def overdue(self, now: float, bounds: Bounds) -> Literal["head", "unread"] | None:
        """What it has kept us waiting for too long."""

    def cut(self) -> None:
        """End it at once."""


class _Room:
    """Connections that share a number of places."""

    def __init__(self, places: int) -> None:
        self.guests: set[Guest] = set()
        self.places = places
        self.search_after = 0.0

    def longest_idle(self, now: float) -> list[Guest]:
        """Some that have been idle for the longest; none where nobody is."""
        if now < self.search_after:
            return []
        idle = [(since, id(guest), guest) for guest in self.guests if (since := guest.idle_since()) is not None]
        if not idle:
            self.search_after = now + SEARCH_EVERY
        return [guest for *_, guest in nsmallest(max(1, self.places // AT_ONCE), idle)]


class Crowd:
    """Lets connections in while there is room, and makes room by ending those that have been idle for the longest."""

    def __init__(self, bounds: Bounds, proxies: Proxies, count: Callable[[Cut], None]) -> None:
        self.bounds = bounds
        self._proxies = proxies
        self._count = count
        self._everyone = _Room(bounds.connections)
        self._rooms: dict[str, _Room] = {}
        self._frozen = 0  # connections that full collections pass over
        self._places: dict[Guest, str] = {}  # the address of each; none for those of proxies

    @property
    def guests(self) -> AbstractSet[Guest]:
        """The open connections."""
        return self._everyone.guests

    @property
    def addresses(self) -> AbstractSet[str]:
        """The client addresses that have an open connection. Trusted proxies share the empty address."""
        return self._rooms.keys()

    def beside(self, places: int) -> "Crowd":
        """One with as many places of its own, the same patience and the same counts of who was sent away."""
        return Crowd(replace(self.bounds, connections=places), self._proxies, self._count)

    def enter(self, guest: Guest, peer: str | None, now: float) -> bool:
        """Let a connection in, or say that it has to go. A trusted proxy stands for many, and has no share."""
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
        self._rooms[address] = room  # which its last guest may just have left
        room.guests.add(guest)
        return True

    def leave(self, guest: Guest) -> None:
        """Forget a connection that has ended."""
        if guest not in self._places:
            return
        address = self._places.pop(guest)
        self._everyone.guests.discard(guest)
        room = self._rooms[address]
        room.guests.discard(guest)
        if not room.guests:
            del self._rooms[address]

    async def watch(self) -> None:
        """End every connection that keeps us waiting for too long, until cancelled."""
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
        """Keep many connections out of full collections: a walk over 10,000 holds the loop up for 0.4 s, for nothing.

        Those that end are freed at once, but for what their errors have made cycles of: that is looked for, once, when
        half of them have gone.
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
        """How many connections are open."""
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
