"""Sign-in at a provider of OpenID Connect: who gets in, where the browser is led, how long a session lasts."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa
from joserfc.jwk import generate_key
from yarl import URL

from support_service.console.sign_in import own_page
from support_service.platform.access.timings import SessionLimits
from support_service.platform.database.tables import console_sessions, console_sign_ins
from tests.support.access.fixtures import write_token
from tests.support.access.provider import CLIENT_ID, SECRET, flipped
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
from tests.support.calls import expect_problem
from tests.support.scrape import Changes
from tests.support.service import service_of
from tests.support.timings import patient_timings

AUTHENTICATIONS = "support_access_authentications_total"
OTHER_ADDRESSES = [
    *("https://evil.example/", "//evil.example/", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)"),
    *("/console/../../evil", "/console//evil.example", "/console/cases/\\evil", "/console/cases/a#b", "/console"),
    *("/console/login", "/console/callback?code=1", "/console/logout", "/console/sign-in?next=//evil.example"),
    *("/docs", "/support/me", "", "/console/\n", "/console/cases/a\x00", " /console/", "/console/static/1/app.js"),
]
OWN_PAGES = [
    *("/console/", "/console/?view=mine&q=a%26b", "/console/oncall", "/console/audit?action=x"),
    "/console/customers/a%2Fb",
]
WRONG_CLAIMS = [
    *({"iss": "https://other.example"}, {"iss": None}, {"nonce": "of another sign-in"}, {"nonce": None}),
    *({"aud": "another client"}, {"aud": ["another client"]}, {"aud": [CLIENT_ID, "another client"]}),
    *({"azp": "another client"}, {"sub": None}, {"exp": 1}, {"exp": None}, {"exp": 1e300}, {"exp": 10**400}),
    *({claim: "\ud800"} for claim in ("iss", "aud", "azp", "nonce", "exp")),  # half of a surrogate pair is not text
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def special(make_shared_client, variables):
    """A browser with a service with other settings, which renews sessions at each request."""
    changed = {
        "SUPPORT_OIDC_CLIENT_SECRET_FILE": None,
        "SUPPORT_JWT_AUDIENCE": "support-api",
        "SUPPORT_JWT_SUBJECT_CLAIM": "preferred_username",  # which people can change
        "SUPPORT_OIDC_OUTAGE_GRACE": "1s",
    }
    access = replace(timings(EAGER).access, sessions=SessionLimits(max_sign_ins_per_address=3, max_per_token=2))
    return await make_shared_client(**variables | changed, timings=patient_timings(access=access))


@pytest.fixture
def unusual(client, special, provider):
    """The same, at a provider that knows the person by a name, and the service without a secret."""
    special.session.cookie_jar.clear()
    provider.claims["preferred_username"], provider.secret = "ann", None
    return special


def write_secret(variables, secret):
    Path(variables["SUPPORT_OIDC_CLIENT_SECRET_FILE"]).write_text(secret)
    return secret


async def cookie_of(client, provider):
    """Sign in; return the cookie of the session."""
    return (await sign_in(client, provider)).headers["Set-Cookie"].partition(";")[0]


async def stored(client, table=console_sessions):
    """Return all sessions, or sign-ins that have begun."""
    return await service_of(client).database.fetch_all(sa.select(table))


async def refused(client, code="session_ended", **headers):
    """Expect that the caller is not known."""
    await expect_problem(await client.get("/support/me", headers=headers), 401, code)


async def has_new_rights(client, provider):
    """Expect that a session follows the provider again, by a refresh token that is still valid."""
    provider.answer, provider.userinfo_status, provider.key_set = {}, 200, {}
    provider.claims["groups"] = ["support-leads"]
    assert (await me(client))["role"] == "supervisor"


async def make_due(client):
    """Let the ID token of each session be so old that the next request renews it."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    await service_of(client).database.execute(console_sessions.update().values(refresh_at=past))


async def test_sign_in_leads_to_the_page_with_the_rights_of_the_groups(client, provider, metric_changes):
    """A page that leads on by itself: a redirect would not carry the new cookie, which is SameSite=Strict."""
    response = await sign_in(client, provider, "/console/cases/a-1?tab=files")
    assert response.status == 200
    assert 'content="0;url=/console/cases/a-1?tab=files"' in await response.text()
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(response.headers["Set-Cookie"].split("; "))
    caller = await me(client)
    assert (caller["name"], caller["role"], caller["subject"]) == ("user-7", "agent", "user-7")
    assert metric_changes.value(AUTHENTICATIONS, outcome="accepted") == 2


async def test_cookie_of_the_sign_in_is_bound_to_host_and_browser_and_never_readable_on_the_way(client):
    """It is Lax, because the provider's page leads back; over HTTPS no other host can set it."""
    for headers, name in (({}, "support-sign-in"), (SECURE, "__Host-support-sign-in")):
        response = await client.get("/console/login", headers=headers, allow_redirects=False)
        parts = response.headers["Set-Cookie"].split("; ")
        assert parts[0].startswith(f"{name}=")
        assert {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=600"} <= set(parts)
        assert ("Secure" in parts) == bool(headers)
    response = await client.get("/console/login", headers={"Host": "desk.example"}, allow_redirects=False)
    await expect_problem(response, 403, "https_required")


async def test_provider_sends_the_browser_to_the_address_that_it_has_used(client):
    """Behind a proxy that ends TLS, also with a default port."""
    for host in ("desk.example", "desk.example:443"):
        address = URL(await begin(client, **SECURE, Host=host))
        assert address.query["redirect_uri"] == "https://desk.example/console/callback"
        assert address.query["scope"] == "openid profile"


async def test_sign_in_leads_to_pages_of_the_console_only(client, provider):
    """Any other address leads to the queue."""
    assert {address: own_page(address) for address in OWN_PAGES} == {address: address for address in OWN_PAGES}
    assert {address: own_page(address) for address in OTHER_ADDRESSES} == dict.fromkeys(OTHER_ADDRESSES, "/console/")
    assert 'content="0;url=/console/"' in await (await sign_in(client, provider, "//evil.example/")).text()


async def test_id_token_for_another_purpose_is_refused(client, provider, subtests):
    """Issuer, audience, party, nonce and expiry."""
    for changes in WRONG_CLAIMS:
        with subtests.test(changes=ascii(changes)[:60]):
            provider.changes = changes
            assert await failure(await sign_in(client, provider), 400) == "invalid"
            await refused(client, "token_missing")
    provider.changes = {"aud": [CLIENT_ID, "api"], "azp": CLIENT_ID}
    assert (await sign_in(client, provider)).status == 200


async def test_person_without_a_name_or_a_mapped_group_gets_a_page_that_says_so(client, provider):
    """Every person without a name would be the same one. No session begins."""
    for changes in ({"sub": " "}, {"sub": "   "}, {"sub": "\ud800"}, {"groups": "\ud800"}, {"groups": ["engineering"]}):
        provider.changes = changes
        assert await failure(await sign_in(client, provider), 403) == "no_role", ascii(changes)
    assert await stored(client) == []


async def test_id_token_with_another_signature_is_refused(client, provider):
    """One by a stranger's key, one of changed claims, and none."""
    provider.signing_key = ("first", generate_key("RSA", 2048, {"kid": "first"}))
    assert await failure(await sign_in(client, provider), 400) == "invalid"
    provider.signing_key = None
    for answer in ({"id_token": flipped(provider.id_token())}, {"id_token": None}, {"id_token": "a.b.c"}):
        provider.answer = answer
        assert await failure(await sign_in(client, provider), 400) == "invalid"


async def test_answer_of_another_provider_or_sign_in_is_refused(client, provider):
    """Providers that say who they are (RFC 9207); one that does not is believed."""
    assert await failure(await sign_in(client, provider, iss="https://other.example"), 400) == "invalid"
    for state in (None, "", "of another sign-in"):
        assert await failure(await sign_in(client, provider, state=state), 400) == "expired"
    assert (await sign_in(client, provider, iss=None)).status == 200


async def test_sign_in_is_used_once(client, provider, metric_changes):
    """Neither the same address again, nor its code in a new sign-in, starts a session."""
    address = provider.approve(await begin(client))
    assert (await come_back(client, address)).status == 200
    assert await failure(await come_back(client, address), 400) == "expired"
    assert await failure(await sign_in(client, provider, code=address.query["code"]), 400) == "invalid"
    counted = [metric_changes.value(AUTHENTICATIONS, outcome=outcome) for outcome in ("expired", "invalid")]
    assert counted == [1, 1]


async def test_nobody_can_make_a_browser_end_the_sign_in_of_another_one(client, eager, provider):
    """Otherwise the victim would work in the attacker's account. The victim's own sign-in goes on."""
    attacker, victim = client, eager
    planted = provider.approve(await begin(attacker))
    assert await failure(await come_back(victim, planted), 400) == "expired"
    own = provider.approve(await begin(victim))
    assert await failure(await come_back(victim, planted), 400) == "expired"
    assert (await come_back(victim, own)).status == 200
    assert (await come_back(attacker, planted)).status == 200


async def test_sign_ins_of_two_tabs_can_both_end(client, provider):
    """Also in the other order."""
    first, second = [provider.approve(await begin(client)) for _ in range(2)]
    assert [(await come_back(client, each)).status for each in (second, first)] == [200, 200]


async def test_another_replica_can_end_the_sign_in(client, eager, provider):
    """The database has what the second half needs, and none of it can be read there."""
    address = provider.approve(await begin(client))
    (row,) = await stored(client, console_sign_ins)
    (cookie,) = client.session.cookie_jar
    assert not [secret for secret in (address.query["state"], cookie.value) if secret in str(row)]
    response = await come_back(eager, address, Cookie=f"{cookie.key}={cookie.value}")
    assert response.status == 200
    assert provider.claims["sub"] not in str(await stored(client))
    client.session.cookie_jar.clear()
    assert (await me(client, Cookie=response.headers["Set-Cookie"].partition(";")[0]))["name"] == "user-7"


async def test_sign_ins_of_one_address_and_sessions_of_one_person_are_limited(unusual, provider):
    """One client with any number of cookies cannot fill the table. The oldest session gives way, as for tokens."""
    cookies = []
    for _ in range(5):
        unusual.session.cookie_jar.clear()
        await begin(unusual)
    assert len(await stored(unusual, console_sign_ins)) == 3
    for _ in range(3):
        unusual.session.cookie_jar.clear()
        cookies.append(await cookie_of(unusual, provider))
    unusual.session.cookie_jar.clear()
    statuses = [(await unusual.get("/support/me", headers={"Cookie": each})).status for each in cookies]
    assert statuses == [401, 200, 200]


async def test_sign_in_after_the_provider_has_changed_its_keys(client, provider):
    await sign_in(client, provider)
    provider.rotate_keys()
    assert (await sign_in(client, provider)).status == 200


async def test_refusal_of_the_provider_is_shown(client, provider):
    """Users are not told to sign in again if operators must act; the log names the reason."""
    for error, status, reason in (
        ("access_denied", 403, "denied"),
        ("temporarily_unavailable", 503, "provider_unavailable"),
        ("server_error", 503, "provider_unavailable"),
        ("invalid_scope", 403, "invalid"),
    ):
        assert await failure(await sign_in(client, provider, code=None, error=error), status) == reason


async def test_sign_in_replaces_the_session_of_the_browser(client, provider):
    """The browser has lost the cookie of the session before."""
    before = await cookie_of(client, provider)
    await sign_in(client, provider)
    client.session.cookie_jar.clear()
    await refused(client, Cookie=before)


async def test_client_identifies_itself_as_the_provider_asks(client, unusual, provider, variables, caplog):
    """The secret may change while the service runs. The log tells operators of a wrong one. Without one PKCE is all."""
    assert (await sign_in(unusual, provider)).status == 200
    for methods in (["client_secret_post"], ["client_secret_basic"], None):
        provider.metadata = {"token_endpoint_auth_methods_supported": methods}
        for secret in (SECRET, "another"):
            provider.secret = write_secret(variables, secret)
            assert (await sign_in(client, provider)).status == 200
    write_secret(variables, f"{SECRET}\n")
    assert await failure(await sign_in(client, provider), 503) == "provider_unavailable"
    assert "the error 'invalid_client'" in caplog.text


async def test_token_of_the_provider_is_a_jwt_of_the_api_unless_it_is_of_another_client(client, unusual, provider):
    """As at the sign-in: another application of the company could present the tokens of its users.

    Each program has an id of its own at the provider, so an audience of programs takes any client.
    """
    for claims in ({"azp": "another client"}, {"aud": [CLIENT_ID, "another client"]}, {"azp": ["x"]}):
        token = provider.id_token(**claims)
        await refused(client, "token_invalid", Authorization=f"Bearer {token}")
        response = await client.post("/console/session", json={"token": token}, headers=SAME_ORIGIN)
        await expect_problem(response, 401, "token_invalid")
    for claims in ({"azp": CLIENT_ID}, {"aud": [CLIENT_ID, "api"], "azp": CLIENT_ID}, {"groups": ["support-leads"]}):
        role = "supervisor" if "groups" in claims else "agent"
        assert (await me(client, Authorization=f"Bearer {provider.id_token(**claims)}"))["role"] == role
    assert await me(
        unusual, Authorization=f"Bearer {provider.id_token(aud=['support-api', 'account'], azp='importer')}"
    )


async def test_proxy_signs_people_in_where_the_service_has_no_provider(client, provider, make_shared_client, variables):
    """With SUPPORT_OIDC_CLIENT_ID the tokens are of its own client. Sessions end, as their rights came from there."""
    cookie = await cookie_of(client, provider)
    changed = {"SUPPORT_OIDC_ISSUER": None, "SUPPORT_OIDC_CLIENT_SECRET_FILE": None, "SUPPORT_JWT_AUDIENCE": CLIENT_ID}
    keys = {"SUPPORT_JWT_KEYS": f"{provider.issuer}/keys", "SUPPORT_JWT_ISSUER": provider.issuer}
    behind = await make_shared_client(**variables | changed | keys)
    assert await me(behind, Authorization=f"Bearer {provider.id_token(azp=CLIENT_ID)}")
    await refused(behind, "token_invalid", Authorization=f"Bearer {provider.id_token(azp='another client')}")
    await refused(behind, Cookie=cookie)
    assert (await behind.get("/console/login")).status == 404


async def test_programs_use_tokens_where_people_sign_in(provider, make_shared_client, variables, tmp_path):
    """And people may paste one."""
    path = tmp_path / "tokens.json"
    token = write_token(path, "importer", role="service")
    changed = {"SUPPORT_AUTH": "token", "SUPPORT_TOKENS_FILE": str(path)}
    client = await make_shared_client(**variables | changed, timings=timings())
    assert (await me(client, Authorization=f"Bearer {token}"))["role"] == "service"
    await refused(client, "token_invalid", Authorization=f"Bearer {provider.id_token()}")
    assert (await sign_in(client, provider)).status == 200
    assert (await me(client))["role"] == "agent"
    response = await client.post("/console/session", json={"token": token}, headers=SAME_ORIGIN)
    assert (response.status, (await me(client))["name"]) == (204, "importer")


# What happens to sessions


async def test_session_follows_the_groups_of_the_person(eager, provider):
    """Within the life of an ID token: new rights, and none at all."""
    await sign_in(eager, provider)
    await has_new_rights(eager, provider)
    provider.claims["groups"] = []
    await refused(eager, "token_invalid")


async def test_session_ends_when_the_provider_has_ended_it(eager, provider):
    """The person has left, or has signed out at the provider."""
    await sign_in(eager, provider)
    assert (await me(eager))["name"] == "user-7"
    provider.refuses_people = True
    await refused(eager)
    assert await stored(eager) == []


async def test_session_goes_on_while_the_provider_is_down(client, eager, provider, make_shared_client, variables):
    """With the rights that it had. When the provider is back, the session follows it again.

    A replica that starts meanwhile knows the person from the session, and people sign in once the provider is back.
    """
    changes = Changes(service_of(eager).metrics)
    cookie = await cookie_of(eager, provider)
    await provider.close()
    assert (await me(eager))["role"] == "agent"
    assert changes.value(AUTHENTICATIONS, outcome="unavailable") == 1
    started = await make_shared_client(**variables, timings=timings(EAGER))
    assert (await me(started, Cookie=cookie))["role"] == "agent"
    for each in (started, client):
        assert await failure(await each.get("/console/login"), 503) == "provider_unavailable"
    await provider.open()
    await has_new_rights(eager, provider)
    assert (await sign_in(started, provider)).status == 200


async def test_late_answer_of_the_provider_renews_the_session(provider, make_shared_client, variables):
    """The request does not wait for it. The old refresh token is used up, so the new one must not be lost.

    A service that stops waits for it, too.
    """
    late = timings(replace(EAGER, refresh_wait=0.05, retry_interval=1_000))
    client = await make_shared_client(**variables, timings=late)
    await sign_in(client, provider)
    await make_due(client)
    provider.claims["groups"] = ["support-leads"]
    held = provider.hold()
    assert (await me(client))["role"] == "agent"
    closing = asyncio.create_task(service_of(client).sessions.close())
    await asyncio.sleep(0)
    assert not closing.done()
    held.set()
    await closing
    assert (await me(client))["role"] == "supervisor"
    assert len(provider.requests) == 2


async def test_session_that_nobody_has_confirmed_for_long_waits_for_the_provider(unusual, provider):
    """It ends neither: the provider may be back soon."""
    provider.lifetime = -2
    await sign_in(unusual, provider)
    await provider.close()
    await expect_problem(await unusual.get("/support/me"), 503, "provider_unavailable")
    await provider.open()
    provider.lifetime = 3600
    assert (await me(unusual))["role"] == "agent"


async def test_session_goes_on_with_an_incomplete_answer(eager, provider, subtests):
    """The new refresh token is kept, or the old one stays valid; the next request has a complete answer."""
    for name, changes in {
        "no ID token": {"answer": {"id_token": None}},
        "no new refresh token": {"answer": {"refresh_token": None}, "keeps_refresh_tokens": True},
        "userinfo does not answer": {"answer": {"id_token": None}, "userinfo_status": 500},
        "the new key cannot be read": {"key_set": {"keys": None}},  # whether it is the provider's is not known yet
    }.items():
        with subtests.test(name):
            await provider.reset()
            await sign_in(eager, provider)
            if "key_set" in changes:
                provider.rotate_keys()
            vars(provider).update(changes)
            for _ in range(2):
                assert (await me(eager))["role"] == "agent"
            await has_new_rights(eager, provider)


async def expect_end(client, provider, **changes):
    """Sign in, and change the provider's answers; the next request must end the session."""
    await sign_in(client, provider)
    before = {name: getattr(provider, name) for name in changes}
    vars(provider).update(changes)
    await refused(client)
    assert await stored(client) == [], changes
    vars(provider).update(before)


async def test_session_ends_when_its_renewed_id_token_is_wrong(eager, provider):
    """A provider that answers wrongly has no grace: the grace is for a provider that does not answer."""
    for changes in (
        *({"iss": "https://other.example"}, {"aud": "another client"}, {"azp": "another client"}, {"exp": 1}),
        *({"sub": "user-8"}, {"sub": None}, {"exp": None}, {"aud": [CLIENT_ID, "another client"]}),
    ):
        await expect_end(eager, provider, changes=changes)
    for id_token in (flipped(provider.id_token()), "a.b.c", 5, ""):
        await expect_end(eager, provider, answer={"id_token": id_token})
    await expect_end(eager, provider, signing_key=("stranger", generate_key("RSA", 2048, {"kid": "stranger"})))


async def test_session_ends_when_its_person_becomes_another_agent(unusual, provider):
    """The same `sub` with another `preferred_username`, which may be the name of a colleague."""
    for answer in ({}, {"id_token": None}):  # then userinfo tells the name
        provider.claims["preferred_username"], provider.answer = "ann", {}
        await sign_in(unusual, provider)
        provider.answer = answer
        assert (await me(unusual))["subject"] == "ann"
        provider.claims["preferred_username"] = "ben"
        await refused(unusual)
        assert await stored(unusual) == []


async def test_renewal_without_id_token_ends_the_session_of_a_person_with_other_rights(eager, provider):
    """The userinfo endpoint tells the groups. Without a way to ask for the person, groups would stay for a week."""
    for userinfo in ({"groups": ["support-leads"]}, {"groups": []}, {"groups": None}, {"sub": "user-8"}, {"sub": None}):
        await expect_end(eager, provider, answer={"id_token": None}, userinfo=userinfo)
    for status in (401, 403):
        await expect_end(eager, provider, answer={"id_token": None}, userinfo_status=status)
    await expect_end(eager, provider, answer={"id_token": None, "access_token": None})
    provider.metadata = {"userinfo_endpoint": None}
    await expect_end(eager, provider, answer={"id_token": None})


async def test_odd_lifetime_of_a_renewal_costs_no_refresh_token(eager, provider):
    """A renewal without an ID token says how long it holds. Each value is bounded, and the session goes on."""
    await sign_in(eager, provider)
    numbers = (1e300, -1e300, -1, 0, 10**400, 2**63)
    for seconds in (*numbers, "NaN", "-Infinity", "1e400", "3600", "soon", True, [], {}, None):
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
    await refused(client)


# What the sign-in says of a provider that fails


async def test_sign_in_says_that_the_provider_does_not_answer(client, provider, make_shared_client, variables):
    """The browser is not led to a server that does not answer."""
    for metadata in (
        {"issuer": "https://other.example"},
        {"jwks_uri": f"{provider.issuer}/nothing"},
        {"token_endpoint": "http://192.0.2.1/token"},  # plain HTTP
    ):
        provider.metadata = metadata
        response = await client.get("/console/login", allow_redirects=False)
        assert await failure(response, 503) == "provider_unavailable"
    hasty = await make_shared_client(**variables, timings=timings(replace(PATIENT, http_timeout=0.2)))
    provider.hold()
    assert await failure(await hasty.get("/console/login"), 503) == "provider_unavailable"


async def test_provider_that_fails_after_the_sign_in_is_named(client, provider):
    """The code is of no use any more, and the page offers another sign-in."""
    address = provider.approve(await begin(client))
    await provider.close()
    assert await failure(await come_back(client, address), 503) == "provider_unavailable"


# Logout


async def log_out(client, site="same-origin"):
    """Follow the link; return the response, and where it leads."""
    response = await client.get("/console/logout", headers={"Sec-Fetch-Site": site}, allow_redirects=False)
    assert response.status == 302
    return response, URL(response.headers["Location"])


async def test_logout_ends_the_session_here_and_at_the_provider(client, provider):
    """The provider leads back to the sign-in, which it knows by the client."""
    cookie = await cookie_of(client, provider)
    response, address = await log_out(client)
    assert str(address.with_query(None)) == f"{provider.issuer}/logout"
    assert address.query["client_id"] == CLIENT_ID
    assert address.query["post_logout_redirect_uri"] == str(client.make_url("/console/sign-in"))
    assert address.query["id_token_hint"].count(".") == 2
    assert 'support-session="";' in response.headers["Set-Cookie"]
    await refused(client, Cookie=cookie)


async def test_another_site_cannot_end_a_session(client, provider):
    await sign_in(client, provider)
    for site in ("cross-site", "same-site"):
        assert str((await log_out(client, site))[1]) == "/console/sign-in"
        assert (await me(client))["name"] == "user-7"


async def test_logout_where_the_provider_has_none_or_the_id_token_is_too_long_for_a_url(client, provider):
    """And without a session."""
    provider.metadata = {"end_session_endpoint": None}
    await sign_in(client, provider)
    for _ in range(2):
        assert str((await log_out(client))[1]) == "/console/sign-in"
        await refused(client, "token_missing")
    provider.metadata = {}
    provider.claims["groups"] = ["support-agents", *(f"group-{number}" for number in range(1000))]
    await sign_in(client, provider)
    assert "id_token_hint" not in (await log_out(client))[1].query
