"""Changes of a case as the service publishes them, the owner of the case, a stream that shows them, and its clients."""

import json
from contextlib import asynccontextmanager
from types import SimpleNamespace

from support_service.core.domain.principals import CaseOwnership, Principal
from support_service.platform.background import run_in_background
from support_service.platform.settings.process import LimitSettings
from support_service.stream.service import ChangeStream

BOSS = Principal("boss", "supervisor")
TICKET = {"id": "case-1", "customerId": "customer-1", "assignedAgentId": None, "team": None, "version": 1}


def published_change(number: int) -> str:
    head = {"id": f"event-{number}", "type": "support.case.updated.v1", "time": "2026-05-12T09:00:00Z"}
    return json.dumps({**head, "data": {"changeType": "case.changed", "ticket": TICKET}})


async def owners(case_ids):
    """Return that each case is of the customer that its events name."""
    return dict.fromkeys(case_ids, CaseOwnership("customer-1", None, None))


def make_stream(log, instruments, timings, *, mask=lambda case: case, read_owners=owners) -> ChangeStream:
    """Return a stream of the changes in a log, which masks cases by `mask`."""
    masker, cases = SimpleNamespace(mask_published_case=mask), SimpleNamespace(read_owners=read_owners)
    return ChangeStream(log, masker, cases, instruments, LimitSettings(), timings=timings)


@asynccontextmanager
async def running(stream: ChangeStream):
    async with run_in_background(stream.feed.run()):
        await stream.feed.attempted.wait()
        yield


class Follower:
    """A client of a stream, with the frames that it has got."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    @property
    def text(self) -> bytes:
        return b"".join(self.frames)

    async def write(self, frame: bytes) -> None:
        self.frames.append(frame)

    async def follow(self, stream: ChangeStream, principal: Principal, view: str, last_event_id: str | None) -> None:
        subscriber = stream.open(principal, view, lambda: principal, lambda: None)
        await stream.send(subscriber, last_event_id, self.write)


@asynccontextmanager
async def following(stream: ChangeStream, last_event_id=None, principal=BOSS, view="full", client=None):
    client = client or Follower()
    async with run_in_background(client.follow(stream, principal, view, last_event_id)):
        yield client
