"""Sessions of browsers: sign-in, what the cookie allows, and how a session ends."""

from datetime import UTC, datetime

import pytest
import pytest_asyncio

from support_service.platform.access.tokens import edit_token_file
from support_service.stream.service import StreamTimings
from tests.support.access.fixtures import AUDIENCE, ISSUER, write_token
from tests.support.calls import eventually, expect_problem
from tests.support.stream import follow
from tests.support.timings import patient_timings

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
SECURE = {"X-Forwarded-Proto": "https"}
COOKIE = "support-session"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The path of the token file."""
    return tmp_path_factory.mktemp("tokens") / "tokens.json"


@pytest.fixture(scope="module")
def token(path):
    return write_token(path, "lan", role="agent", subject="agent-7")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(make_shared_client, path, token):
    """A client of a service that requires tokens, behind a trusted proxy, for all tests of this module."""
    variables = {"SUPPORT_AUTH": "token", "SUPPORT_TOKENS_FILE": str(path), "SUPPORT_TRUSTED_PROXIES": "127.0.0.0/8"}
    return await make_shared_client(**variables)


@pytest.fixture
def client(service):
    """The client, without a cookie."""
    service.session.cookie_jar.clear()
    return service


async def sign_in(client, token, **headers):
    """Sign in like a page of the console; return the response."""
    return await client.post("/console/session", json={"token": token}, headers=SAME_ORIGIN | headers)


async def test_cookie_identifies_the_caller_of_the_token(client, token):
    """The cookie is out of reach of scripts and of other sites, and the API knows its caller by it."""
    response = await sign_in(client, token)
    assert response.status == 204
    cookie = response.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    me = await (await client.get("/support/me")).json()
    assert (me["name"], me["subject"]) == ("lan", "agent-7")


async def test_cookie_over_https_is_bound_to_the_host_and_never_sent_over_plain_http_but_on_loopback(client, token):
    """Over HTTPS its name has the prefix that no other host and no plain HTTP can set."""
    cookie = (await sign_in(client, token, **SECURE)).headers["Set-Cookie"]
    assert (cookie.startswith("__Host-support-session="), "Secure" in cookie) == (True, True)
    await expect_problem(await sign_in(client, token, Host="desk.example"), 403, "https_required")
    response = await client.get("/support/me", headers={"Host": "desk.example", "Cookie": f"{COOKIE}=something"})
    await expect_problem(response, 401, "token_missing")


async def test_cookie_of_the_other_scheme_does_not_count(client, token):
    """A browser sends both to loopback. An ended one of HTTPS must not hide one of plain HTTP, or the reverse."""
    for headers, other in (({}, "__Host-support-session"), (SECURE, COOKIE)):
        current = (await sign_in(client, token, **headers)).headers["Set-Cookie"].partition(";")[0]
        both = headers | {"Cookie": f"{other}=ended; {current}"}
        assert (await client.get("/support/me", headers=both)).status == 200
        response = await client.delete("/console/session", headers=both | SAME_ORIGIN)
        assert response.headers["Set-Cookie"].partition("=")[0] == current.partition("=")[0]
        await expect_problem(await client.get("/support/me", headers=both), 401, "session_ended")


async def test_sign_in_ends_the_session_that_it_replaces(client, token):
    """The browser has lost its cookie. A refused sign-in neither starts nor replaces a session."""
    first = (await sign_in(client, token)).headers["Set-Cookie"].partition(";")[0]
    response = await sign_in(client, "sup_wrong")
    await expect_problem(response, 401, "token_invalid")
    assert "Set-Cookie" not in response.headers
    assert (await client.get("/support/me")).status == 200
    assert (await sign_in(client, token)).status == 204
    assert (await client.get("/support/me")).status == 200
    client.session.cookie_jar.clear()
    await expect_problem(await client.get("/support/me", headers={"Cookie": first}), 401, "session_ended")


async def open_from(client, headers, expected):
    """Open a case with headers of a page; expect that each is admitted or not."""
    headers = {name: value.format(port=client.port) for name, value in headers.items()}
    response = await client.post("/support/cases", json={"subject": "A", "channel": "web"}, headers=headers)
    assert response.status == expected, headers
    if expected == 403:
        await expect_problem(response, 403, "origin_not_allowed")


async def test_change_by_cookie_comes_from_a_page_of_this_origin(client, token):
    """A page of another site can make a browser send a request, but not with these headers. Nor can it sign in."""
    await sign_in(client, token)
    for headers in (SAME_ORIGIN, {"Origin": "http://127.0.0.1:{port}"}, {"Authorization": f"Bearer {token}"}):
        await open_from(client, headers, 201)  # programs with a token send no such headers
    origins = ("http://127.0.0.1:1", "https://127.0.0.1:{port}", "http://127.0.0.1", "http://[127.0.0.1", "null")
    for headers in (
        *({"Sec-Fetch-Site": site} for site in ("same-site", "cross-site", "none")),
        *({"Origin": origin} for origin in (*origins, "127.0.0.1:{port}")),
        {},
    ):
        await open_from(client, headers, 403)
    response = await client.post("/console/session", json={"token": token}, headers={"Sec-Fetch-Site": "cross-site"})
    await expect_problem(response, 403, "origin_not_allowed")


async def test_origin_behind_a_proxy_has_the_scheme_of_the_client(client, token):
    """The proxy says that the client came over HTTPS, and may write its default port."""
    cookie = (await sign_in(client, token, **SECURE)).headers["Set-Cookie"].partition(";")[0]
    for host in ("desk.example", "Desk.example:443"):
        headers = SECURE | {"Host": host, "Cookie": cookie}
        await open_from(client, headers | {"Origin": "https://desk.example"}, 201)
        for other in ("http://desk.example", "https://desk.example:444"):
            await open_from(client, headers | {"Origin": other}, 403)


async def test_change_by_token_comes_from_no_foreign_page(make_shared_client, path, token):
    """A proxy that signs people in adds their token to any request of their browser, also of a foreign form."""
    client = await make_shared_client(
        SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(path), SUPPORT_CORS_ORIGINS="https://portal.example"
    )
    for headers, status in (
        *(({"Sec-Fetch-Site": site}, 201) for site in ("same-origin", "none")),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://portal.example"}, 201),
        *(({"Origin": origin}, 403) for origin in ("https://evil.example", "null")),
        *(({"Origin": origin}, 201) for origin in ("https://portal.example", "http://127.0.0.1:{port}")),
    ):
        authorized = headers | {"Authorization": f"Bearer {token}"}
        await open_from(client, authorized, status)
        authorized = {name: value.format(port=client.port) for name, value in authorized.items()}
        assert (await client.get("/support/me", headers=authorized)).status == 200


async def test_page_behind_a_proxy_that_signs_people_in_needs_no_session(client, token):
    """The proxy sends a token with each request. Its pages offer no sign-out, which is the proxy's."""
    response = await client.get("/console/", headers={"Authorization": f"Bearer {token}"}, allow_redirects=False)
    assert response.status == 200
    assert 'data-auth="proxy"' in await response.text()
    assert (await client.get("/console/", allow_redirects=False)).status == 302


async def test_sign_out_ends_the_session_and_its_streams(make_shared_client, path, token):
    """The cookie is removed, and a copy of it is worth nothing. Other sessions of the token go on."""
    timings = patient_timings(stream=StreamTimings(access_interval=0.02))
    client = await make_shared_client(SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(path), timings=timings)
    copy = {"Cookie": (await sign_in(client, token)).headers["Set-Cookie"].partition(";")[0]}
    assert (await client.get("/support/me", headers=copy)).status == 200
    async with follow(client) as ended, follow(client, token) as other:
        assert (await client.delete("/console/session", headers=SAME_ORIGIN)).status == 204
        await expect_problem(await client.get("/support/me", headers=copy), 401, "session_ended")
        await eventually(lambda: ended.ended)
        assert not other.ended


async def test_session_ends_with_its_token(make_client, tmp_path):
    """A revoked token takes its sessions along."""
    path = tmp_path / "tokens.json"
    token = write_token(path, "lan")
    client = await make_client(SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(path))
    await sign_in(client, token)
    with edit_token_file(path) as entries:
        entries[:] = [entry.model_copy(update={"revoked": datetime.now(UTC)}) for entry in entries]

    async def is_refused():
        return (await client.get("/support/me")).status == 401

    await eventually(is_refused)


async def test_jwt_is_exchanged_like_a_token(make_client, issuer):
    """The session has the rights of the JWT."""
    client = await make_client(
        SUPPORT_AUTH="jwt",
        SUPPORT_JWT_KEYS=issuer.jwks_location,
        SUPPORT_JWT_ISSUER=ISSUER,
        SUPPORT_JWT_AUDIENCE=AUDIENCE,
    )
    response = await sign_in(client, issuer.sign(role="agent", sub="agent-7"))
    assert response.status == 204
    assert (await (await client.get("/support/me")).json())["role"] == "agent"


async def test_service_without_authentication_has_no_sign_in(make_client):
    """Its page leads to the queue."""
    client = await make_client()
    response = await client.get("/console/sign-in", allow_redirects=False)
    assert (response.status, response.headers["Location"]) == (302, "/console/")
    assert (await client.post("/console/session", json={"token": "x"})).status == 404
