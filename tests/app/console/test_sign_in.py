"""Sign-in at a provider of OpenID Connect: who gets in, where the browser is led, how long a session lasts."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from joserfc.jwk import generate_key
from yarl import URL

from support_service.console.sign_in import own_page
from support_service.platform.access.sign_ins import LIFETIME, PendingSignIns, SignIn
from support_service.platform.access.timings import SessionLimits
from support_service.platform.database.tables import console_sessions, console_sign_ins
from tests.conftest import both_databases
from tests.support.access.fixtures import write_token
from tests.support.access.provider import CLIENT_ID, flipped
from tests.support.access.sign_in import (
    EAGER,
    PATIENT,
    SAME_ORIGIN,
    SECURE,
    begin,
    come_back,
    failure,
    me,
    sign_in,
    timings,
)
from tests.support.calls import eventually, expect_problem
from tests.support.scrape import Scrape
from tests.support.service import service_of
from tests.support.timings import patient_timings


@pytest.fixture
async def client(make_client, variables):
    """A browser with a service whose users sign in at the provider."""
    return await make_client(**variables, timings=timings())


@pytest.fixture
async def eager(make_client, variables):
    """A browser with a service that asks the provider for a newer ID token at each request."""
    return await make_client(**variables, timings=timings(EAGER))


async def test_sign_in_leads_to_the_page_with_the_rights_of_the_groups(client, provider, metrics):
    """A page that leads on by itself: a redirect would not carry the new cookie, which is SameSite=Strict."""
    response = await sign_in(client, provider, "/console/cases/a-1?tab=files")
    assert response.status == 200
    assert 'content="0;url=/console/cases/a-1?tab=files"' in await response.text()
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(response.headers["Set-Cookie"].split("; "))
    caller = await me(client)
    assert (caller["name"], caller["role"], caller["subject"]) == ("user-7", "agent", "user-7")
    assert metrics.value("support_access_authentications_total", outcome="accepted") == 2


async def test_cookie_of_the_sign_in_is_bound_to_host_and_browser(client):
    """It is Lax, because the provider's page leads back; over HTTPS no other host can set it."""
    for headers, name in (({}, "support-sign-in"), (SECURE, "__Host-support-sign-in")):
        response = await client.get("/console/login", headers=headers, allow_redirects=False)
        parts = response.headers["Set-Cookie"].split("; ")
        assert parts[0].startswith(f"{name}=")
        assert {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=600"} <= set(parts)
        assert ("Secure" in parts) == bool(headers)


async def test_sign_in_over_plain_http_works_on_loopback_only(client):
    """The code and the cookie would be readable on the way."""
    response = await client.get("/console/login", headers={"Host": "desk.example"}, allow_redirects=False)
    await expect_problem(response, 403, "https_required")


async def test_provider_sends_the_browser_to_the_address_that_it_has_used(client):
    """Behind a proxy that ends TLS, also with a default port."""
    for host in ("desk.example", "desk.example:443"):
        address = URL(await begin(client, **SECURE, Host=host))
        assert address.query["redirect_uri"] == "https://desk.example/console/callback"
        assert address.query["scope"] == "openid profile"


@pytest.mark.parametrize(
    "address",
    [
        *("https://evil.example/", "//evil.example/", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)"),
        *("/console/../../evil", "/console//evil.example", "/console/cases/\\evil", "/console/cases/a#b", "/console"),
        *("/console/login", "/console/callback?code=1", "/console/logout", "/console/sign-in?next=//evil.example"),
        *("/docs", "/support/me", "", "/console/\n", "/console/cases/a\x00", " /console/", "/console/static/1/app.js"),
    ],
)
async def test_sign_in_leads_to_pages_of_the_console_only(client, provider, address):
    """Any other address leads to the queue."""
    assert own_page(address) == "/console/"
    assert 'content="0;url=/console/"' in await (await sign_in(client, provider, address)).text()


@pytest.mark.parametrize(
    "address",
    [
        "/console/",
        "/console/?view=mine&q=a%26b",
        "/console/oncall",
        "/console/audit?action=x",
        "/console/customers/a%2Fb",
    ],
)
def test_sign_in_leads_back_to_the_page_that_asked_for_it(address):
    assert own_page(address) == address


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example"},
        {"iss": None},
        {"aud": "another client"},
        {"aud": ["another client"]},
        {"aud": [CLIENT_ID, "another client"]},
        {"azp": "another client"},
        {"nonce": "of another sign-in"},
        {"nonce": None},
        {"exp": 1},
        {"exp": None},
        {"exp": 1e300},
        {"exp": 10**400},
        {"sub": None},
    ],
)
async def test_id_token_for_another_purpose_is_refused(client, provider, changes):
    """Issuer, audience, party, nonce and expiry."""
    provider.changes = changes
    assert await failure(await sign_in(client, provider), 400) == "invalid"
    await expect_problem(await client.get("/support/me"), 401, "token_missing")


@pytest.mark.parametrize("claim", ["iss", "aud", "azp", "nonce", "sub", "exp", "groups"])
async def test_claim_with_half_a_character_is_refused(client, provider, claim):
    """Half of a surrogate pair is not text. The person is told, and the provider is not called unavailable."""
    provider.changes = {claim: "\ud800"}
    assert await failure(await sign_in(client, provider), 403 if claim in ("sub", "groups") else 400) in (
        "invalid",
        "no_role",
    )


async def test_blank_person_is_refused(client, provider):
    """Every person without a name would be the same one."""
    for blank in (" ", "   "):
        provider.changes = {"sub": blank}
        assert await failure(await sign_in(client, provider), 403) == "no_role"


async def test_id_token_with_another_signature_is_refused(client, provider):
    """One by a stranger's key, one of changed claims, and none."""
    stranger = ("first", generate_key("RSA", 2048, {"kid": "first"}))
    provider.signing_key = stranger
    assert await failure(await sign_in(client, provider), 400) == "invalid"
    provider.signing_key = None
    for answer in ({"id_token": flipped(provider.id_token())}, {"id_token": None}, {"id_token": "a.b.c"}):
        provider.answer = answer
        assert await failure(await sign_in(client, provider), 400) == "invalid"
    provider.answer = {}
    assert (await sign_in(client, provider)).status == 200


async def test_several_audiences_need_this_client_as_the_party(client, provider):
    provider.changes = {"aud": [CLIENT_ID, "api"], "azp": CLIENT_ID}
    assert (await sign_in(client, provider)).status == 200


async def test_answer_of_another_provider_is_refused(client, provider):
    """Providers that say who they are (RFC 9207); one that does not is believed."""
    assert await failure(await sign_in(client, provider, iss="https://other.example"), 400) == "invalid"
    assert (await sign_in(client, provider, iss=None)).status == 200


@pytest.mark.parametrize("state", [None, "", "of another sign-in"])
async def test_answer_without_the_state_of_the_sign_in_is_refused(client, provider, state):
    assert await failure(await sign_in(client, provider, state=state), 400) == "expired"


async def test_sign_in_is_used_once(client, provider, metrics):
    """Neither the same address again, nor its code in a new sign-in, starts a session."""
    address = provider.approve(await begin(client))
    assert (await come_back(client, address)).status == 200
    assert await failure(await come_back(client, address), 400) == "expired"
    assert await failure(await sign_in(client, provider, code=address.query["code"]), 400) == "invalid"
    assert metrics.value("support_access_authentications_total", outcome="expired") == 1
    assert metrics.value("support_access_authentications_total", outcome="invalid") == 1


async def test_nobody_can_make_a_browser_end_the_sign_in_of_another_one(make_client, variables, provider):
    """Otherwise the victim would work in the attacker's account. The victim's own sign-in goes on."""
    attacker, victim = [await make_client(**variables, timings=timings()) for _ in range(2)]
    planted = provider.approve(await begin(attacker))
    assert await failure(await come_back(victim, planted), 400) == "expired"
    own = provider.approve(await begin(victim))
    assert await failure(await come_back(victim, planted), 400) == "expired"
    assert (await come_back(victim, own)).status == 200
    assert (await come_back(attacker, planted)).status == 200


async def test_sign_ins_of_two_tabs_can_both_end(client, provider):
    """Also in the other order."""
    first, second = [provider.approve(await begin(client)) for _ in range(2)]
    assert (await come_back(client, second)).status == 200
    assert (await come_back(client, first)).status == 200


async def test_another_replica_can_end_the_sign_in(make_client, variables, provider):
    """The database has what the second half needs, and none of it can be read there."""
    one, other = [await make_client(**variables, timings=timings()) for _ in range(2)]
    address = provider.approve(await begin(one))
    (row,) = await service_of(one).database.fetch_all(sa.select(console_sign_ins))
    (cookie,) = one.session.cookie_jar
    assert address.query["state"] not in str(row)
    assert cookie.value not in str(row)
    response = await come_back(other, address, Cookie=f"{cookie.key}={cookie.value}")
    assert response.status == 200
    (session,) = await service_of(one).database.fetch_all(sa.select(console_sessions))
    assert provider.claims["sub"] not in str(session)
    session_cookie = response.headers["Set-Cookie"].partition(";")[0]
    one.session.cookie_jar.clear()
    assert (await me(one, Cookie=session_cookie))["name"] == "user-7"


@both_databases
async def test_sign_in_expires(database):
    """After ten minutes, and nothing of it stays."""
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    pending = PendingSignIns(database, now=lambda: now[0])
    sign_in = SignIn("nonce", "verifier", "https://desk.example/console/callback", "/console/")
    await pending.begin("secret", "first", sign_in, "10.0.0.1")
    await pending.begin("secret", "second", sign_in, "10.0.0.1")
    now[0] += LIFETIME - timedelta(seconds=1)
    assert await pending.take("other secret", "first") is None
    assert await pending.take("secret", "first") == sign_in
    assert await pending.take("secret", "first") is None
    now[0] += timedelta(seconds=1)
    assert await pending.take("secret", "second") is None
    await pending.begin("secret", "third", sign_in, "10.0.0.1")
    assert len(await database.fetch_all(sa.select(console_sign_ins.c.id))) == 1


@both_databases
async def test_sign_ins_that_have_begun_are_limited(database):
    """The oldest one of an address gives way, and the oldest one of all. Other addresses keep theirs."""
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    limits = SessionLimits(max_sign_ins_per_address=2, max_sign_ins=4)
    pending = PendingSignIns(database, limits, lambda: now[0])
    sign_in = SignIn("nonce", "verifier", "https://desk.example/console/callback", "/console/")

    async def begin_each(*states):
        for state in states:
            now[0] += timedelta(seconds=1)
            await pending.begin("secret", state, sign_in, state[0])

    async def left(*states):
        return [state for state in states if await pending.take("secret", state) is not None]

    await begin_each("a1", "b1", "a2", "a3", "a4")
    assert await left("a1", "a2", "a3") == ["a3"]
    await begin_each("a5", "c1", "d1", "e1")
    assert await left("b1", "a4", "a5", "c1", "d1", "e1") == ["a5", "c1", "d1", "e1"]


async def test_sign_ins_of_one_address_are_limited(make_client, variables):
    """One client with any number of cookies cannot fill the table."""
    access = replace(timings().access, sessions=SessionLimits(max_sign_ins_per_address=3))
    client = await make_client(**variables, timings=patient_timings(access=access))
    for _ in range(5):
        client.session.cookie_jar.clear()
        await begin(client)
    assert len(await service_of(client).database.fetch_all(sa.select(console_sign_ins.c.id))) == 3


async def test_sign_in_after_the_provider_has_changed_its_keys(client, provider):
    """A session that began before goes on."""
    assert (await sign_in(client, provider)).status == 200
    (cookie,) = [each for each in client.session.cookie_jar if each.key == "support-session"]
    provider.rotate_keys()
    assert (await sign_in(client, provider)).status == 200
    client.session.cookie_jar.clear()
    assert (await client.get("/support/me")).status == 401
    assert cookie.value


async def test_person_without_a_mapped_group_gets_a_page_that_says_so(client, provider):
    """No session begins."""
    provider.claims["groups"] = ["engineering"]
    assert await failure(await sign_in(client, provider), 403) == "no_role"
    assert await service_of(client).database.fetch_all(sa.select(console_sessions.c.id)) == []


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        ("access_denied", 403, "denied"),
        ("temporarily_unavailable", 503, "provider_unavailable"),
        ("server_error", 503, "provider_unavailable"),
        ("invalid_scope", 403, "invalid"),
    ],
)
async def test_refusal_of_the_provider_is_shown(client, provider, error, status, reason):
    assert await failure(await sign_in(client, provider, code=None, error=error), status) == reason


async def test_sign_in_replaces_the_session_of_the_browser(client, provider):
    """The browser has lost the cookie of the session before."""
    before = (await sign_in(client, provider)).headers["Set-Cookie"].partition(";")[0]
    await sign_in(client, provider)
    client.session.cookie_jar.clear()
    await expect_problem(await client.get("/support/me", headers={"Cookie": before}), 401, "session_ended")


async def test_person_has_a_limited_number_of_sessions(make_client, variables, provider):
    """The oldest one gives way, as for tokens."""
    access = timings().access
    limited = replace(access, sessions=replace(access.sessions, max_per_token=2))
    client = await make_client(**variables, timings=patient_timings(access=limited))
    cookies = []
    for _ in range(3):
        client.session.cookie_jar.clear()
        cookies.append((await sign_in(client, provider)).headers["Set-Cookie"].partition(";")[0])
    client.session.cookie_jar.clear()
    statuses = [(await client.get("/support/me", headers={"Cookie": each})).status for each in cookies]
    assert statuses == [401, 200, 200]


@pytest.fixture
def secret_file(variables):
    """The file with the client's secret."""
    return Path(variables["SUPPORT_OIDC_CLIENT_SECRET_FILE"])


@pytest.mark.parametrize("methods", [["client_secret_post"], ["client_secret_basic"], None])
async def test_client_identifies_itself_as_the_provider_asks(client, provider, methods, secret_file):
    """The secret may change while the service runs."""
    provider.metadata = {"token_endpoint_auth_methods_supported": methods}
    assert (await sign_in(client, provider)).status == 200
    secret_file.write_text("another")
    provider.secret = "another"
    assert (await sign_in(client, provider)).status == 200


async def test_client_without_a_secret(make_client, variables, provider):
    """PKCE alone."""
    provider.secret = None
    client = await make_client(**variables | {"SUPPORT_OIDC_CLIENT_SECRET_FILE": None}, timings=timings())
    assert (await sign_in(client, provider)).status == 200


async def test_wrong_secret_is_for_operators_to_repair(client, provider, caplog):
    """Users are not told to sign in again; the log names the reason."""
    provider.secret = "another"
    assert await failure(await sign_in(client, provider), 503) == "provider_unavailable"
    assert "the error 'invalid_client'" in caplog.text


async def test_token_of_the_provider_is_a_jwt_of_the_api(client, provider):
    """With SUPPORT_AUTH=jwt and no other keys, as an authenticating proxy sends it."""
    headers = {"Authorization": f"Bearer {provider.id_token(groups=['support-leads'])}"}
    assert (await me(client, **headers))["role"] == "supervisor"


async def test_token_of_another_client_is_no_jwt_of_the_api(client, provider):
    """As at the sign-in: another application of the company could present the tokens of its users."""
    for claims in ({"azp": "another client"}, {"aud": [CLIENT_ID, "another client"]}, {"azp": ["x"]}):
        headers = {"Authorization": f"Bearer {provider.id_token(**claims)}"}
        await expect_problem(await client.get("/support/me", headers=headers), 401, "token_invalid")
        response = await client.post(
            "/console/session", json={"token": provider.id_token(**claims)}, headers=SAME_ORIGIN
        )
        await expect_problem(response, 401, "token_invalid")
    for claims in ({"azp": CLIENT_ID}, {"aud": [CLIENT_ID, "api"], "azp": CLIENT_ID}):
        assert await me(client, Authorization=f"Bearer {provider.id_token(**claims)}")


async def test_token_for_an_audience_of_programs_may_be_of_any_client(make_client, variables, provider):
    """Each program has an id of its own at the provider."""
    client = await make_client(**variables, SUPPORT_JWT_AUDIENCE="support-api", timings=timings())
    token = provider.id_token(aud=["support-api", "account"], azp="importer")
    assert await me(client, Authorization=f"Bearer {token}")


async def test_proxy_that_signs_people_in_sends_tokens_of_its_own_client_only(make_client, variables, provider):
    """With SUPPORT_OIDC_CLIENT_ID, also without SUPPORT_OIDC_ISSUER."""
    changed = {"SUPPORT_OIDC_ISSUER": None, "SUPPORT_OIDC_CLIENT_SECRET_FILE": None, "SUPPORT_JWT_AUDIENCE": CLIENT_ID}
    keys = {"SUPPORT_JWT_KEYS": f"{provider.issuer}/keys", "SUPPORT_JWT_ISSUER": provider.issuer}
    client = await make_client(**variables | changed | keys)
    assert await me(client, Authorization=f"Bearer {provider.id_token(azp=CLIENT_ID)}")
    headers = {"Authorization": f"Bearer {provider.id_token(azp='another client')}"}
    await expect_problem(await client.get("/support/me", headers=headers), 401, "token_invalid")


async def test_programs_use_tokens_where_people_sign_in(make_client, variables, provider, tmp_path):
    """And people may paste one."""
    path = tmp_path / "tokens.json"
    token = write_token(path, "importer", role="service")
    client = await make_client(
        **variables | {"SUPPORT_AUTH": "token", "SUPPORT_TOKENS_FILE": str(path)}, timings=timings()
    )
    assert (await me(client, Authorization=f"Bearer {token}"))["role"] == "service"
    response = await client.get("/support/me", headers={"Authorization": f"Bearer {provider.id_token()}"})
    await expect_problem(response, 401, "token_invalid")
    assert (await sign_in(client, provider)).status == 200
    assert (await me(client))["role"] == "agent"
    response = await client.post("/console/session", json={"token": token}, headers=SAME_ORIGIN)
    assert response.status == 204
    assert (await me(client))["name"] == "importer"


# What happens to sessions


async def test_session_follows_the_groups_of_the_person(eager, provider):
    """Within the life of an ID token: new rights, and none at all."""
    await sign_in(eager, provider)
    provider.claims["groups"] = ["support-leads"]
    assert (await me(eager))["role"] == "supervisor"
    provider.claims["groups"] = []
    await expect_problem(await eager.get("/support/me"), 401, "token_invalid")


async def test_session_ends_when_the_provider_has_ended_it(eager, provider):
    """The person has left, or has signed out at the provider."""
    await sign_in(eager, provider)
    assert (await me(eager))["name"] == "user-7"
    provider.refuses_people = True
    await expect_problem(await eager.get("/support/me"), 401, "session_ended")
    assert await service_of(eager).database.fetch_all(sa.select(console_sessions.c.id)) == []


async def test_session_is_not_taken_over_by_another_person(eager, provider):
    await sign_in(eager, provider)
    provider.claims["sub"] = "user-8"
    await expect_problem(await eager.get("/support/me"), 401, "session_ended")


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"], indirect=True)
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


async def test_session_goes_on_while_the_provider_is_down(eager, provider):
    """With the rights that it had. When the provider is back, the session follows it again."""
    await sign_in(eager, provider)
    await provider.close()
    assert (await me(eager))["role"] == "agent"
    assert Scrape(service_of(eager).metrics).value("support_access_authentications_total", outcome="unavailable") == 1
    await provider.open()
    provider.claims["groups"] = ["support-leads"]
    assert (await me(eager))["role"] == "supervisor"


async def test_late_answer_of_the_provider_renews_the_session(make_client, variables, provider):
    """The request does not wait for it. The old refresh token is used up, so the new one must not be lost."""
    client = await make_client(**variables, timings=timings(replace(EAGER, refresh_wait=0.05, retry_interval=1_000)))
    await sign_in(client, provider)
    database = service_of(client).database
    await database.execute(console_sessions.update().values(refresh_at=datetime.now(UTC) - timedelta(seconds=1)))
    provider.claims["groups"] = ["support-leads"]
    held = provider.hold()
    assert (await me(client))["role"] == "agent"
    held.set()

    async def has_new_rights():
        return (await me(client))["role"] == "supervisor"

    await eventually(has_new_rights)
    assert len(provider.requests) == 2


async def test_renewal_in_progress_ends_before_the_service_stops(make_client, variables, provider):
    """Another replica renews the session again, by the new refresh token."""
    stopping, other = [await make_client(**variables, timings=timings(EAGER)) for _ in range(2)]
    cookie = (await sign_in(stopping, provider)).headers["Set-Cookie"].partition(";")[0]
    held = provider.hold()
    call = asyncio.create_task(me(stopping))
    await eventually(lambda: provider.waiting)
    closing = asyncio.create_task(service_of(stopping).sessions.close())
    await asyncio.sleep(0)
    assert not closing.done()
    held.set()
    await closing
    await call
    provider.claims["groups"] = ["support-leads"]
    assert (await me(other, Cookie=cookie))["role"] == "supervisor"


async def test_session_goes_on_after_a_restart_while_the_provider_is_down(make_client, variables, provider):
    """A replica that has never reached the provider knows the person from the session."""
    client = await make_client(**variables, timings=timings(EAGER))
    cookie = (await sign_in(client, provider)).headers["Set-Cookie"].partition(";")[0]
    await provider.close()
    restarted = await make_client(**variables, timings=timings(EAGER))
    assert (await me(restarted, Cookie=cookie))["role"] == "agent"


async def test_session_that_nobody_has_confirmed_for_long_waits_for_the_provider(make_client, variables, provider):
    """It ends neither: the provider may be back soon."""
    client = await make_client(**variables, SUPPORT_OIDC_OUTAGE_GRACE="1s", timings=timings(EAGER))
    provider.lifetime = -2
    await sign_in(client, provider)
    await provider.close()
    await expect_problem(await client.get("/support/me"), 503, "provider_unavailable")
    await provider.open()
    provider.lifetime = 3600
    assert (await me(client))["role"] == "agent"


@pytest.mark.parametrize("answer", ["no ID token", "no new refresh token"])
async def test_session_goes_on_with_an_incomplete_answer(eager, provider, answer):
    """The refresh token is new, or the old one stays valid; the next request has a complete answer."""
    await sign_in(eager, provider)
    if answer == "no ID token":
        provider.answer = {"id_token": None}
    else:
        provider.answer = {"refresh_token": None}
        provider.keeps_refresh_tokens = True
    for _ in range(2):
        assert (await me(eager))["role"] == "agent"
    provider.answer = {}
    provider.claims["groups"] = ["support-leads"]
    assert (await me(eager))["role"] == "supervisor"


async def expect_end(client, provider, **changes):
    """Sign in, and change the provider's answers; the next request must end the session."""
    await sign_in(client, provider)
    before = {name: getattr(provider, name) for name in changes}
    vars(provider).update(changes)
    await expect_problem(await client.get("/support/me"), 401, "session_ended")
    assert await service_of(client).database.fetch_all(sa.select(console_sessions.c.id)) == [], changes
    vars(provider).update(before)


async def test_session_ends_when_its_renewed_id_token_is_wrong(eager, provider):
    """A provider that answers wrongly has no grace: the grace is for a provider that does not answer."""
    for changes in (
        *({"iss": "https://other.example"}, {"aud": "another client"}, {"azp": "another client"}, {"exp": 1}),
        *({"sub": "user-8"}, {"sub": None}, {"exp": None}, {"aud": [CLIENT_ID, "another client"]}),
    ):
        await expect_end(eager, provider, changes=changes)


async def test_session_ends_when_its_renewed_id_token_has_no_valid_signature(eager, provider):
    """Also an ID token that is not a JWT at all."""
    for id_token in (flipped(provider.id_token()), "a.b.c", 5, ""):
        await expect_end(eager, provider, answer={"id_token": id_token})
    await expect_end(eager, provider, signing_key=("stranger", generate_key("RSA", 2048, {"kid": "stranger"})))


async def test_session_goes_on_while_the_new_key_of_the_provider_cannot_be_read(eager, provider):
    """Whether the key is the provider's is not known yet. The new refresh token is kept."""
    await sign_in(eager, provider)
    provider.rotate_keys()
    provider.key_set = {"keys": None}
    for _ in range(2):
        assert (await me(eager))["role"] == "agent"
    provider.key_set = {}
    provider.claims["groups"] = ["support-leads"]
    assert (await me(eager))["role"] == "supervisor"


@pytest.fixture
async def named(make_client, variables):
    """A browser with a service that knows agents by a claim which people can change, and renews at each request."""
    return await make_client(**variables, SUPPORT_JWT_SUBJECT_CLAIM="preferred_username", timings=timings(EAGER))


@pytest.mark.parametrize("renewal", ["ID token", "userinfo"])
async def test_session_ends_when_its_person_becomes_another_agent(named, provider, renewal):
    """The same `sub` with another `preferred_username`, which may be the name of a colleague."""
    provider.claims["preferred_username"] = "ann"
    await sign_in(named, provider)
    provider.answer = {"id_token": None} if renewal == "userinfo" else {}
    assert (await me(named))["subject"] == "ann"
    provider.claims["preferred_username"] = "ben"
    await expect_problem(await named.get("/support/me"), 401, "session_ended")
    assert await service_of(named).database.fetch_all(sa.select(console_sessions.c.id)) == []


async def test_renewal_without_id_token_ends_the_session_of_a_person_with_other_rights(eager, provider):
    """The userinfo endpoint tells the groups. The next sign-in gives the new rights."""
    await sign_in(eager, provider)
    provider.answer = {"id_token": None}
    assert (await me(eager))["role"] == "agent"
    provider.answer = {}
    for userinfo in ({"groups": ["support-leads"]}, {"groups": []}, {"groups": None}, {"sub": "user-8"}, {"sub": None}):
        await expect_end(eager, provider, answer={"id_token": None}, userinfo=userinfo)
    for status in (401, 403):
        await expect_end(eager, provider, answer={"id_token": None}, userinfo_status=status)


@pytest.mark.parametrize("missing", ["endpoint", "access token"])
async def test_renewal_that_confirms_nothing_ends_the_session(make_client, variables, provider, missing):
    """Without an ID token, and without a way to ask for the person, groups would stay for a week."""
    if missing == "endpoint":
        provider.metadata = {"userinfo_endpoint": None}
    eager = await make_client(**variables, timings=timings(EAGER))
    access_token = {"access_token": None} if missing == "access token" else {}
    await expect_end(eager, provider, answer={"id_token": None} | access_token)


async def test_session_goes_on_while_the_userinfo_endpoint_does_not_answer(eager, provider):
    """The new refresh token is kept."""
    await sign_in(eager, provider)
    provider.answer, provider.userinfo_status = {"id_token": None}, 500
    for _ in range(2):
        assert (await me(eager))["role"] == "agent"
    provider.answer = {}
    provider.claims["groups"] = ["support-leads"]
    assert (await me(eager))["role"] == "supervisor"


async def test_odd_lifetime_of_a_renewal_costs_no_refresh_token(eager, provider):
    """A renewal without an ID token says how long it holds. Each value is bounded, and the session goes on."""
    await sign_in(eager, provider)
    for seconds in (
        1e300,
        -1e300,
        -1,
        0,
        10**400,
        2**63,
        "NaN",
        "-Infinity",
        "1e400",
        "3600",
        "soon",
        True,
        [],
        {},
        None,
    ):
        provider.answer = {"id_token": None, "expires_in": seconds}
        assert (await me(eager))["role"] == "agent", seconds
    assert len({form.get("refresh_token") for form in provider.requests}) == len(provider.requests)


async def test_session_without_refresh_token_ends_with_its_id_token(client, provider):
    """The provider says how long it believes in the person."""
    provider.answer = {"refresh_token": None}
    await sign_in(client, provider)
    assert (await me(client))["role"] == "agent"
    provider.lifetime = -1
    await sign_in(client, provider)
    await expect_problem(await client.get("/support/me"), 401, "session_ended")


async def test_session_ends_when_the_service_has_no_provider_any_more(make_client, variables, provider, issuer):
    """Its rights came from there."""
    client = await make_client(**variables, timings=timings())
    cookie = (await sign_in(client, provider)).headers["Set-Cookie"].partition(";")[0]
    changed = {name: None for name in variables if "OIDC" in name}
    keys = {"SUPPORT_JWT_KEYS": issuer.jwks_location, "SUPPORT_JWT_ISSUER": "x", "SUPPORT_JWT_AUDIENCE": "x"}
    without = await make_client(**variables | changed | keys)
    await expect_problem(await without.get("/support/me", headers={"Cookie": cookie}), 401, "session_ended")
    assert (await without.get("/console/login")).status == 404


# What the sign-in says of a provider that fails


@pytest.mark.parametrize("fault", ["down", "slow", "another issuer", "no keys", "plain HTTP"])
async def test_sign_in_says_that_the_provider_does_not_answer(make_client, variables, provider, fault):
    """The browser is not led to a server that does not answer."""
    hasty = replace(PATIENT, http_timeout=0.2) if fault == "slow" else PATIENT
    client = await make_client(**variables, timings=timings(hasty))
    if fault == "down":
        await provider.close()
    elif fault == "slow":
        provider.hold()
    elif fault == "another issuer":
        provider.metadata = {"issuer": "https://other.example"}
    elif fault == "no keys":
        provider.metadata = {"jwks_uri": f"{provider.issuer}/nothing"}
    else:
        provider.metadata = {"token_endpoint": "http://192.0.2.1/token"}
    response = await client.get("/console/login", allow_redirects=False)
    assert await failure(response, 503) == "provider_unavailable"


async def test_service_starts_while_the_provider_is_down(make_client, variables, provider):
    """And people sign in once it is back."""
    await provider.close()
    client = await make_client(**variables, timings=timings())
    assert await failure(await client.get("/console/login"), 503) == "provider_unavailable"
    await provider.open()
    assert (await sign_in(client, provider)).status == 200


async def test_provider_that_fails_after_the_sign_in_is_named(client, provider):
    """The code is of no use any more, and the page offers another sign-in."""
    address = provider.approve(await begin(client))
    await provider.close()
    assert await failure(await come_back(client, address), 503) == "provider_unavailable"


# Logout


async def test_logout_ends_the_session_here_and_at_the_provider(client, provider):
    """The provider leads back to the sign-in, which it knows by the client."""
    cookie = (await sign_in(client, provider)).headers["Set-Cookie"].partition(";")[0]
    response = await client.get("/console/logout", headers=SAME_ORIGIN, allow_redirects=False)
    address = URL(response.headers["Location"])
    assert (response.status, str(address.with_query(None))) == (302, f"{provider.issuer}/logout")
    assert address.query["client_id"] == CLIENT_ID
    assert address.query["post_logout_redirect_uri"] == str(client.make_url("/console/sign-in"))
    assert address.query["id_token_hint"].count(".") == 2
    assert 'support-session="";' in response.headers["Set-Cookie"]
    await expect_problem(await client.get("/support/me", headers={"Cookie": cookie}), 401, "session_ended")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_site_cannot_end_a_session(client, provider, site):
    await sign_in(client, provider)
    response = await client.get("/console/logout", headers={"Sec-Fetch-Site": site}, allow_redirects=False)
    assert response.headers["Location"] == "/console/sign-in"
    assert (await me(client))["name"] == "user-7"


async def test_logout_without_a_logout_at_the_provider(client, provider):
    """And without a session."""
    provider.metadata = {"end_session_endpoint": None}
    await sign_in(client, provider)
    for _ in range(2):
        response = await client.get("/console/logout", headers=SAME_ORIGIN, allow_redirects=False)
        assert response.headers["Location"] == "/console/sign-in"
    assert (await client.get("/support/me")).status == 401


async def test_very_long_id_token_is_no_hint(client, provider):
    """The URL would be longer than servers take."""
    provider.claims["groups"] = ["support-agents", *(f"group-{number}" for number in range(1000))]
    await sign_in(client, provider)
    response = await client.get("/console/logout", headers=SAME_ORIGIN, allow_redirects=False)
    assert "id_token_hint" not in URL(response.headers["Location"]).query
