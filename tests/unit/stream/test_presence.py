"""Presence that other replicas announce."""

import json

import pytest

from support_service.core.domain.principals import CaseOwnership, Principal
from support_service.events.broker.log import LogPlace
from support_service.events.broker.memory import InMemoryLog
from support_service.stream.presence import Presence, PresenceTimings, PresentAgent
from support_service.stream.subscribers import Subscribers

NOTE = {"from": "other", "case": "case-1", "owner": ["customer-1", None, None], "name": "lan", "state": "viewing"}


@pytest.fixture
def presence():
    """Presence that is valid for 15 s, at the time 0."""
    return Presence(Subscribers(), PresenceTimings(valid_for=15.0), lambda: 0.0)


@pytest.mark.parametrize(
    ("changed", "age", "is_shown"),
    [
        *(({}, 14.9, True), ({}, 15.0, False), ({}, 3600.0, False)),
        *(({"state": "asleep"}, 0.0, False), ({"owner": []}, 0.0, False)),
    ],
    ids=["recent", "just over", "an hour old", "unknown state", "unreadable"],
)
def test_what_is_no_longer_valid_is_never_shown(presence, changed, age, is_shown):
    """A replica that was stopped for a while reads old announcements; the expiry, once a second, comes too late."""
    presence.receive_announcement(json.dumps(NOTE | changed).encode(), age)
    assert presence.viewers("case-1") == ([PresentAgent("lan", "viewing")] if is_shown else [])


@pytest.mark.parametrize(("age", "is_present"), [(0.0, True), (119.0, True), (120.0, False), (3600.0, False)])
def test_people_are_present_for_two_minutes(presence, age, is_present):
    """After the last word of a replica that has their streams."""
    presence.receive_announcement(b'{"from": "other", "present": ["lan"]}', age)
    presence.receive_announcement(b'{"from": "other", "present": 1}', age)
    assert (presence.is_present("lan"), presence.is_present("minh")) == (is_present, False)


async def test_own_announcement_does_not_come_back(presence):
    """Read late, it would overwrite a newer one."""
    log = InMemoryLog()
    for state in ("typing", "viewing"):
        await presence.announce(Principal("lan", "agent"), "case-1", CaseOwnership(None, None, None), state, log)
    first, _ = (await log.follow(LogPlace(0), 0.0)).notes
    presence.receive_announcement(first.content, first.age)
    assert presence.viewers("case-1") == [PresentAgent("lan", "viewing")]
