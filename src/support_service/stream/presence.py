"""Presence: which agents are here, view a case or type in it. It lives in memory for a while, and is never stored.

Each replica has all of it: what its own clients say, and what the others pass on as notes beside the log of events.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pydantic_core

from support_service.core.domain.case_vocabulary import PRESENCE_STATES, PresenceState
from support_service.core.domain.principals import CaseOwnership, Principal
from support_service.core.ids import new_id
from support_service.events.broker.base import BrokerError
from support_service.events.broker.log import EventLog
from support_service.stream.frames import event_frame
from support_service.stream.subscribers import QueuedFrame, Subscriber, Subscribers

PRESENCE_EVENT = "presence"

log = logging.getLogger(__name__)


MAX_CASES = 10_000  # with viewers
MAX_VIEWERS_PER_CASE = 50  # of one case
MAX_PRESENT = 10_000  # people with an open stream


@dataclass(frozen=True, slots=True)
class PresenceTimings:
    """Times in seconds."""

    valid_for: float = 15.0
    expiry_interval: float = 1.0  # between two removals of what has expired
    present_for: float = 120.0  # after the last word of an open stream
    present_interval: float = 30.0  # between two notes about the open streams of a replica


class PresentAgent(NamedTuple):
    """An agent who views a case or types in it."""

    name: str
    state: PresenceState


@dataclass(slots=True)
class _ViewedCase:
    """The viewers of a case, each with the state and the loop time at which it expires."""

    owner: CaseOwnership
    viewers: dict[str, tuple[PresenceState, float]]

    def shown_viewers(self) -> list[PresentAgent]:
        return [PresentAgent(name, state) for name, (state, _) in sorted(self.viewers.items())]


class Presence:
    """The viewers of all cases, as this replica knows them; changes are passed to the streams of staff."""

    def __init__(
        self,
        subscribers: Subscribers,
        timings: PresenceTimings = PresenceTimings(),
        now: Callable[[], float] | None = None,
    ) -> None:
        self._subscribers = subscribers
        self._timings = timings
        self._now = now or asyncio.get_running_loop().time
        self._cases: dict[str, _ViewedCase] = {}
        self._present: dict[str, float] = {}  # loop time until which each person counts as present
        self._replica = new_id()

    async def announce(
        self, principal: Principal, case_id: str, owner: CaseOwnership, state: PresenceState | None, event_log: EventLog
    ) -> None:
        """Say that a principal views a case, types in it, or (without a state) has left it.

        The streams of this replica and of the others learn a change at once.

        While the broker is unavailable, only the clients of this replica learn of it.
        """
        name = principal.id
        self._put_viewer(case_id, owner, name, state, self._timings.valid_for)
        self.note_present([name])
        note = {
            "from": self._replica,
            "case": case_id,
            "owner": [owner.customer_id, owner.assigned_agent_id, owner.team],
            "name": name,
            "state": state,
        }
        await _pass_on(note, event_log)

    async def announce_present(self, event_log: EventLog) -> None:
        """Say which members of staff have an open stream of this replica."""
        ids = {each.principal.id for each in self._subscribers if each.view == "full"}
        self.note_present(ids)
        if ids:
            await _pass_on({"from": self._replica, "present": sorted(ids)}, event_log)

    def note_present(self, ids: Iterable[str], age: float = 0.0) -> None:
        """Count people as present who were here `age` seconds ago."""
        until = self._now() + self._timings.present_for - age
        for each in ids:
            if each in self._present or len(self._present) < MAX_PRESENT:
                self._present[each] = until

    def is_present(self, agent_id: str) -> bool:
        """Return whether a person has had an open stream, or viewed a case, within the last minutes."""
        return self._present.get(agent_id, 0.0) > self._now()

    def receive_announcement(self, content: bytes, age: float) -> None:
        """Take in what a replica has announced `age` seconds ago; anything unreadable is ignored."""
        try:
            note: Any = pydantic_core.from_json(content)
            if "present" in note:
                self.note_present(map(str, note["present"]), age)
                return
            replica, case_id, name, state = note["from"], note["case"], note["name"], note["state"]
            owner = CaseOwnership(*note["owner"])
        except (ValueError, KeyError, TypeError):
            return
        known = state is None or state in PRESENCE_STATES
        if replica != self._replica and known and age < self._timings.valid_for:
            self._put_viewer(case_id, owner, name, state, self._timings.valid_for - age)
            self.note_present([name])

    def viewers(self, case_id: str) -> list[PresentAgent]:
        case = self._cases.get(case_id)
        return case.shown_viewers() if case else []

    def note_owner(self, case_id: str, owner: CaseOwnership) -> None:
        """Note the customer, the agent and the team of a case; they decide which streams show its viewers."""
        if case := self._cases.get(case_id):
            case.owner = owner

    def send_viewers(self, subscriber: Subscriber) -> None:
        """Pass the viewers of every case that a stream may see to it."""
        if subscriber.view != "full":
            return
        visible = [
            _presence_frame(case_id, case)
            for case_id, case in self._cases.items()
            if subscriber.principal.may_see(case.owner)
        ]
        if visible:
            subscriber.offer(QueuedFrame(b"".join(visible)))

    async def remove_expired(self) -> None:
        """Remove what is no longer valid, and tell the streams."""
        now = self._now()
        self._present = {each: until for each, until in self._present.items() if until > now}
        for case_id, case in list(self._cases.items()):
            ended = [name for name, (_, until) in case.viewers.items() if until <= now]
            for name in ended:
                del case.viewers[name]
            if ended:
                self._send_viewers_of_case(case_id, case)
            if not case.viewers:
                del self._cases[case_id]

    def _put_viewer(
        self, case_id: str, owner: CaseOwnership, name: str, state: PresenceState | None, seconds: float
    ) -> None:
        case = self._cases.get(case_id)
        if state is None:
            if case and case.viewers.pop(name, None):
                self._send_viewers_of_case(case_id, case)
                if not case.viewers:
                    del self._cases[case_id]
            return
        if case is None:
            if len(self._cases) >= MAX_CASES:
                return
            case = self._cases[case_id] = _ViewedCase(owner, {})
        case.owner = owner
        before = case.viewers.get(name)
        if before is None and len(case.viewers) >= MAX_VIEWERS_PER_CASE:
            return
        case.viewers[name] = (state, self._now() + seconds)
        if before is None or before[0] != state:
            self._send_viewers_of_case(case_id, case)

    def _send_viewers_of_case(self, case_id: str, case: _ViewedCase) -> None:
        self._subscribers.send_to_staff(case.owner, _presence_frame(case_id, case))


async def _pass_on(note: Mapping[str, Any], event_log: EventLog) -> None:
    try:
        await event_log.add_note(pydantic_core.to_json(note))
    except BrokerError as failure:
        log.debug("Presence is not passed on: %s", failure)


def _presence_frame(case_id: str, case: _ViewedCase) -> bytes:
    return event_frame(
        PRESENCE_EVENT, {"caseId": case_id, "viewers": [each._asdict() for each in case.shown_viewers()]}
    )
