"""What the database has of sign-ins and sessions of browsers, and what replicas do at once."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from support_service.core.domain.principals import ANONYMOUS
from support_service.core.errors import Unauthenticated
from support_service.platform.access.sessions import BrowserSessions
from support_service.platform.access.sign_ins import LIFETIME, PendingSignIns, SignIn
from support_service.platform.access.timings import SessionLimits
from support_service.platform.database.tables import console_sessions, console_sign_ins
from tests.conftest import both_databases
from tests.support.access.sign_in import PATIENT, me, sign_in, timings
from tests.support.calls import eventually
from tests.support.service import service_of

PENDING = SignIn("nonce", "verifier", "https://desk.example/console/callback", "/console/")


class AcceptingAuthenticator:
    """An authenticator that accepts every token, and keeps what it was given."""

    def __init__(self):
        self.authorizations = []

    async def authenticate(self, authorization):
        self.authorizations.append(authorization)
        return ANONYMOUS


@both_databases
async def test_sign_in_expires(database):
    """After ten minutes, and nothing of it stays."""
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    pending = PendingSignIns(database, now=lambda: now[0])
    await pending.begin("secret", "first", PENDING, "10.0.0.1")
    await pending.begin("secret", "second", PENDING, "10.0.0.1")
    now[0] += LIFETIME - timedelta(seconds=1)
    assert await pending.take("other secret", "first") is None
    assert [await pending.take("secret", "first") for _ in range(2)] == [PENDING, None]
    now[0] += timedelta(seconds=1)
    assert await pending.take("secret", "second") is None
    await pending.begin("secret", "third", PENDING, "10.0.0.1")
    assert len(await database.fetch_all(sa.select(console_sign_ins.c.id))) == 1


@both_databases
async def test_sign_ins_that_have_begun_are_limited(database):
    """The oldest one of an address gives way, and the oldest one of all. Other addresses keep theirs."""
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    limits = SessionLimits(max_sign_ins_per_address=2, max_sign_ins=4)
    pending = PendingSignIns(database, limits, lambda: now[0])

    async def begin_each(*states):
        for state in states:
            now[0] += timedelta(seconds=1)
            await pending.begin("secret", state, PENDING, state[0])

    async def left(*states):
        return [state for state in states if await pending.take("secret", state) is not None]

    await begin_each("a1", "b1", "a2", "a3", "a4")
    assert await left("a1", "a2", "a3") == ["a3"]
    await begin_each("a5", "c1", "d1", "e1")
    assert await left("b1", "a4", "a5", "c1", "d1", "e1") == ["a5", "c1", "d1", "e1"]


@both_databases
async def test_sessions_are_shared_and_stored_without_secrets(database):
    """Another process finds the session; the database has neither the secret nor the token."""
    secret = await BrowserSessions(database, AcceptingAuthenticator()).start("a token")
    other = AcceptingAuthenticator()
    await BrowserSessions(database, other).authenticate(secret)
    assert other.authorizations == [["Bearer a token"]]
    (row,) = await database.fetch_all(sa.select(console_sessions))
    assert not {secret, "a token"} & {str(value) for value in row._asdict().values()}


@both_databases
async def test_sessions_end_by_age_and_number(database):
    """A token has a bounded number of sessions; the oldest one gives way."""
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    limits = SessionLimits(timedelta(days=1), max_per_token=2)
    sessions = BrowserSessions(database, AcceptingAuthenticator(), limits, lambda: now[0])
    secrets = []
    for _ in range(3):
        secrets.append(await sessions.start("token"))
        now[0] += timedelta(seconds=1)
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(secrets[0])
    await sessions.authenticate(secrets[1])
    now[0] += timedelta(days=1)
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(secrets[2])


@both_databases
async def test_one_request_of_all_replicas_renews_a_session(make_client, variables, provider):
    """The provider ends a grant whose refresh token it gets twice. The ID token has expired, so the others wait."""
    late = replace(PATIENT, refresh_early=0, retry_interval=1_000)
    replicas = [await make_client(**variables, timings=timings(late)) for _ in range(2)]
    provider.lifetime = -1  # within the tolerated difference of clocks
    cookie = (await sign_in(replicas[0], provider)).headers["Set-Cookie"].partition(";")[0]
    database = service_of(replicas[0]).database
    await database.execute(console_sessions.update().values(refresh_at=datetime.now(UTC) - timedelta(seconds=1)))
    provider.lifetime = 3600
    provider.claims["groups"] = ["support-leads"]
    held = provider.hold()
    calls = [asyncio.create_task(me(each, Cookie=cookie)) for each in replicas * 5]
    await eventually(lambda: provider.waiting)
    held.set()
    provider.held = None
    assert {caller["role"] for caller in await asyncio.gather(*calls)} == {"supervisor"}
    assert [form["grant_type"] for form in provider.requests] == ["authorization_code", "refresh_token"]
