"""People who signed in at a certified provider work on two replicas, while provider and replicas fail.

SIGN_IN_ROUNDS rounds in the long form. In each round every session is due, and each person sends requests to both
replicas at once. Nobody may be taken for another person.
"""

import asyncio
import os
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial

import aiohttp
import pytest
import sqlalchemy as sa

from support_service.platform.database.tables import console_sessions
from tests.support.access.certified_provider import CertifiedProvider
from tests.support.access.provider import CLIENT_ID, SECRET
from tests.support.calls import eventually
from tests.support.process import LONG_TIMEOUTS, running
from tests.support.servers import free_port

ROUNDS = int(os.environ.get("SIGN_IN_ROUNDS", "0"))  # 0 is the short form
PEOPLE = int(os.environ.get("SIGN_IN_PEOPLE", "3"))
REQUESTS = 4  # of each person to each replica at once

pytestmark = [
    pytest.mark.usefixtures("processes", "servers"),
    pytest.mark.long,
    pytest.mark.parametrize("backend", ["postgresql"], indirect=True),
]


@pytest.fixture
def provider(tmp_path):
    """The certified provider."""
    (folder := tmp_path / "provider").mkdir()
    (folder / "secret").write_text(SECRET)
    provider = CertifiedProvider(folder)
    yield provider
    provider.kill()


class Desk:
    """Two replicas, and people who have signed in at the provider."""

    def __init__(self, stack, provider, database, database_url, folder):
        self._stack = stack
        self._provider = provider
        self._database = database
        self._ports = [free_port(), free_port()]
        self._variables = {
            "SUPPORT_DATABASE_URL": database_url,
            "SUPPORT_AUTH": "jwt",
            "SUPPORT_RATE_LIMIT_ADDRESS": "off",
            "SUPPORT_LOG_LEVEL": "warning",
            "SUPPORT_OIDC_ISSUER": provider.issuer,
            "SUPPORT_OIDC_CLIENT_ID": CLIENT_ID,
            "SUPPORT_OIDC_CLIENT_SECRET_FILE": str(folder / "provider" / "secret"),
            "SUPPORT_JWT_ROLE_CLAIM": "groups",
            "SUPPORT_JWT_ROLE_MAP": "support-leads:supervisor,support-agents:agent",
            "cwd": folder,
        }
        self._replicas = {}
        self._people = {}
        self.seen = Counter()  # answers by status and code

    async def open(self):
        """Start the provider and both replicas, and let everybody sign in."""
        names = [f"person-{number}" for number in range(PEOPLE)]
        self._provider.set_people(**{name: ["support-agents"] for name in names})
        self._provider.start(self.address(0))
        await asyncio.gather(*(self.start(number) for number in (0, 1)))
        for name in names:
            jar = aiohttp.CookieJar(unsafe=True)  # of an address without a name
            self._people[name] = await self._stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
            await self.sign_in(name)

    def address(self, number):
        return f"http://127.0.0.1:{self._ports[number]}"

    async def start(self, number):
        replica = running("serve", SUPPORT_PORT=str(self._ports[number]), **self._variables, **LONG_TIMEOUTS)
        self._replicas[number] = await self._stack.enter_async_context(replica)
        await self._replicas[number].wait_until_ready(self.address(number))

    async def kill(self, number):
        os.kill(self._replicas[number].pid, 9)
        await self._replicas[number].wait_for_exit()
        await self.start(number)

    async def sign_in(self, name):
        """Sign a person in, as the browser does."""
        session = self._people[name]
        session.cookie_jar.clear()
        async with session.get(f"{self.address(0)}/console/login") as form:
            assert form.status == 200, await form.text()
            address = form.url
        async with session.post(address, data={"name": name}) as page:
            assert page.status == 200, await page.text()
            assert page.url.path == "/console/callback"

    async def make_due(self):
        """Let every session be due for a renewal."""
        past = datetime.now(UTC) - timedelta(seconds=1)
        await self._database.execute(console_sessions.update().values(refresh_at=past, refreshing_until=None))

    async def work(self):
        """Let everybody send requests to both replicas at once. Return whose session has ended."""
        calls = [self._call(name, self.address(number % 2)) for name in self._people for number in range(2 * REQUESTS)]
        return {name for name in await asyncio.gather(*calls) if name is not None}

    async def _call(self, name, address):
        try:
            async with self._people[name].get(f"{address}/support/me") as response:
                answer = await response.json()
        except aiohttp.ClientError:  # the replica was killed
            self.seen["no answer"] += 1
            return None
        self.seen[answer.get("code", "ok")] += 1
        if response.status == 200:
            assert (answer["name"], answer["role"]) == (name, "agent")
            return None
        assert (response.status, answer["code"]) == (401, "session_ended")
        return name


@pytest.fixture
async def desk(provider, database, database_url, tmp_path):
    async with AsyncExitStack() as stack:
        desk = Desk(stack, provider, database, database_url, tmp_path)
        await desk.open()
        yield desk


async def all_renewed(database):
    """Return whether every session has been renewed since it was due."""
    now = datetime.now(UTC)
    return all(row.refresh_at > now for row in await database.fetch_all(sa.select(console_sessions.c.refresh_at)))


async def test_sessions_are_renewed_once_whichever_replica_is_asked(desk, database):
    """The provider ends a grant whose refresh token it gets twice: nobody loses the session."""
    for _ in range(max(ROUNDS, 2)):
        await desk.make_due()
        assert await desk.work() == set()
        await eventually(partial(all_renewed, database))
    assert set(desk.seen) == {"ok"}
    print(PEOPLE, "people,", max(ROUNDS, 2), "renewals:", dict(desk.seen))  # noqa: T201 - the result of the long form


async def test_sessions_go_on_while_provider_and_replicas_fail(desk, provider, database):
    """Only a person whose new refresh token a killed replica had not stored signs in again."""
    signed_in_again = 0
    for number in range(max(ROUNDS, 1)):
        await desk.make_due()
        provider.freeze()
        assert await desk.work() == set()
        provider.resume()
        await eventually(partial(all_renewed, database))  # by the late answers
        await desk.make_due()
        assert await desk.work() == set()
        await eventually(partial(all_renewed, database))

        await desk.make_due()
        before = desk.seen.total()
        work = asyncio.create_task(desk.work())
        await eventually(lambda before=before: desk.seen.total() > before)
        await desk.kill(number % 2)
        lost = await work
        await desk.make_due()
        lost |= await desk.work()
        for name in lost:
            await desk.sign_in(name)
        signed_in_again += len(lost)
        await eventually(partial(all_renewed, database))
    assert set(desk.seen) <= {"ok", "no answer", "session_ended"}
    print(PEOPLE, "people:", dict(desk.seen), "signed in again:", signed_in_again)  # noqa: T201 - the result of the long form
