"""A service whose judge has a clock that tests turn: the rules are the rules of production."""

import pytest

from tests.support.access.principals import principals  # noqa: F401 - fixtures
from tests.support.calls import expect_json
from tests.support.clock import Clock
from tests.support.service import service_of

SCRAPE = 15.0  # seconds between two polls
PAUSE = 60.0  # the same while nothing happens


class Watch:
    """Polls the verdict of a service, a scrape apart."""

    def __init__(self, client, read=None):
        """`read` returns the answer; by default it is requested without credentials."""
        self.client = client
        self.read = read or self._read
        self.clock = Clock()
        judge = service_of(client).judge
        self.clock.now = judge.clock() + 3600
        judge.clock = self.clock

    async def poll(self, minutes=0.0):
        """Return the verdict after a scrape, or after some minutes of polls."""
        for seconds in [PAUSE] * round(minutes * 60 / PAUSE) or [SCRAPE]:
            self.clock.now += seconds
            self.answer = await self.read()
        return self.answer["verdict"]

    async def _read(self):
        return await expect_json(self.client.get("/support/oncall"))

    async def poll_during(self, cause, polls=8):
        """Return the verdicts of polls, each after `cause`."""
        found = []
        for _ in range(polls):
            await cause()
            found.append(await self.poll())
        return found


@pytest.fixture
def watch():
    """Return what polls the verdict of a client's service."""
    return Watch
