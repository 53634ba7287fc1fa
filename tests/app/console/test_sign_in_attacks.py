"""Odd requests and odd answers of the provider: no failure of the service, no other address, and no session."""

from itertools import product

import pytest
import sqlalchemy as sa
from yarl import URL

from support_service.platform.database.tables import console_sessions
from tests.support.access.sign_in import SAME_ORIGIN, SECURE, begin, come_back, sign_in
from tests.support.calls import expect_problem
from tests.support.raw_requests import send_raw
from tests.support.service import service_of

PATHS = ("/console/login", "/console/callback?state=a&code=b", "/console/logout", "/console/", "/support/me")
INVALID_HOSTS = [
    *("127.0.0.1:21003, evil", "localhost:1@evil.example", "evil.example@localhost", "@localhost", "localhost,evil"),
    *("localhost:", "localhost:0", "localhost:080", "localhost:99999", "localhost:-1", "localhost:1:2", "localhost:a"),
    *("[::1", "[::1]x", "[::1]:", "[evil]", "[::1%25lo]", "::1", "[127.0.0.1]", "localhost%00", "local host", "*"),
    *("localhost/evil", "localhost?evil", "localhost#evil", "localhost\\evil", "http://localhost", "localhost;", "'"),
    *("localhost..", ".localhost", "a..localhost", "localhost:\u0661", "\u217cocalhost", f"{'a' * 300}.localhost"),
]
ODD_LINES = [
    *("Forwarded: for=127.0.0.1;host=evil.example;proto=https", "X-Forwarded-Host: evil.example"),
    *("X-Forwarded-Port: 1", "X-Forwarded-Prefix: //evil.example", "X-Forwarded-Server: evil.example"),
    *("X-Original-URL: //evil.example", "X-Rewrite-URL: //evil.example", "Referer: https://evil.example/"),
    *("X-Forwarded-Proto: https://evil.example", "X-Forwarded-Proto: \xff", "X-Forwarded-Proto: javascript"),
    *("X-Forwarded-For: \xff", "X-Forwarded-For: [", f"X-Forwarded-For: {'1.1.1.1,' * 900}", "X-Forwarded-For: ,"),
    *("Origin: \xff", "Origin: http://[", "Origin: http://a:99999", "Origin: null", "Origin: https://evil.example"),
    *("Sec-Fetch-Site: \xff", "Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site", "Sec-Fetch-Site:"),
    *("Accept-Language: \xff", f"Accept-Language: {'vi,' * 2000}", "Accept: \xff", "Accept-Encoding: \xff"),
    *("Content-Type: \xff", "Content-Type: text/html; charset=x; charset=y"),
    *("Authorization: Bearer \xff", "Authorization: Basic \xff", "Authorization:", "Authorization: Bearer a"),
    "Authorization: Bearer a\r\nAuthorization: Bearer b",
    *(f"Cookie: {name}={value}" for name in ("support-sign-in", "support-session") for value in (
        *("\xff\xfe", '"\\0\\377"', '"a\\012Set-Cookie: b"', '"\\355\\240\\200"', "", '"', "x" * 7000, "a b,c@"),
        *("a; support-sign-in=b; support-session=c", f"{'a' * 43}; support-session={'b' * 43}"),
    )),
    *("Cookie: ;;=;=;", f"Cookie: {'a=b; ' * 1500}", "Cookie: $Version=1; support-sign-in=x; $Path=/"),
]  # fmt: skip
ODD_VALUES = (None, True, 1e300, 10**400, "", "\ud800", [{}])
ODD_PARTS = {  # members of the provider's answers, by the attribute of FakeProvider that changes them
    "metadata": "issuer authorization_endpoint token_endpoint jwks_uri userinfo_endpoint end_session_endpoint "
    "token_endpoint_auth_methods_supported",
    "key_set": "keys",
    "changes": "iss sub aud azp exp nbf nonce groups name",
    "answer": "id_token access_token refresh_token expires_in",
    "userinfo": "sub groups",
}


@pytest.fixture
def client(eager):
    """A browser with a service that asks the provider for a newer ID token at each request."""
    return eager


async def count_sessions(client):
    """Return the number of stored sessions."""
    return len(await service_of(client).database.fetch_all(sa.select(console_sessions.c.id)))


async def test_request_with_an_invalid_host_is_refused(client):
    """A Host header has several readings unless it is one host, with or without a port."""
    for host in INVALID_HOSTS:
        for path, headers in product(PATHS, ({}, SECURE)):
            response = await client.get(path, headers={**headers, "Host": host}, allow_redirects=False)
            assert response.status == 400, f"{host!a} {path}"
            await expect_problem(response, 400, "malformed_request")


async def test_sign_in_needs_a_host_to_come_back_to(client):
    """A client of HTTP/1.0 names none."""
    for path in ("/console/login", "/console/logout"):
        status, _, _ = await send_raw(
            client.host, client.port, request_of(path, "X-Forwarded-Proto: https", version="1.0")
        )
        assert status == (400 if path == "/console/login" else 302)


async def test_sign_in_comes_back_to_the_host_that_the_browser_names(client):
    """In the form of an origin."""
    for host in ("LOCALHOST", "localhost.", "127.0.0.1:1", "[0:0::1]:65535", "a.localhost", "a_b.localhost:80"):
        address = URL(await begin(client, Host=host))
        name = host.lower().replace("0:0::", "::").removesuffix(":80")
        assert address.query["redirect_uri"] == f"http://{name}/console/callback"


async def test_page_whose_origin_is_not_written_as_browsers_do_changes_nothing(client):
    """Browsers write a scheme, a host and a port."""
    own = str(client.make_url("")).rstrip("/")
    host = own.removeprefix("http://")
    odd = (f"{own}/", f"{own}?x", f"{own}#x", f"http://x@{host}", f"{own}, {own}", f"//{host}", host)
    for origin in ("null", "", *odd):
        for method in ("POST", "DELETE"):
            response = await client.request(method, "/console/session", headers={"Origin": origin}, json={"token": "x"})
            await expect_problem(response, 403, "origin_not_allowed")


def request_of(path, *lines, version="1.1"):
    """Return a GET as bytes."""
    head = [f"GET {path} HTTP/{version}", *lines, "Connection: close"]
    return "\r\n".join([*head, "", ""]).encode("latin-1")


async def test_odd_headers_neither_fail_nor_lead_elsewhere_nor_let_anyone_in(client, provider, subtests):
    """Headers that proxies and browsers send, with values that nobody expects."""
    allowed = (f"{provider.issuer}/authorize?", "/console/sign-in", "/console/")
    for line in ODD_LINES:
        with subtests.test(line=ascii(line[:60])):
            for path in (*PATHS, "http://evil.example/console/login"):
                raw = request_of(path, f"Host: {client.host}:{client.port}", line)
                status, head, _ = await send_raw(client.host, client.port, raw)
                assert status in (200, 302, 400, 401, 403, 431), head
                location = URL(head.partition("\r\nLocation: ")[2].partition("\r\n")[0])
                assert str(location).startswith(allowed) == (status == 302), head
                assert URL(location.query.get("redirect_uri", f"//{client.host}")).host == client.host
                assert "support-session=" not in head.replace('support-session=""', "")
    assert await count_sessions(client) == 0


async def test_callback_with_a_repeated_parameter_is_refused(client, provider):
    """Whichever of its values is right (RFC 6749)."""
    for name, pattern in product(("state", "code", "error", "iss"), ("{1}&{0}", "{0}&{1}", "{0}&{0}")):
        right = URL(provider.approve(await begin(client), **({"error": "access_denied"} if name == "error" else {})))
        both = pattern.format(f"{name}={right.query[name]}", f"{name}=other")
        query = right.without_query_params(name).raw_query_string
        response = await come_back(client, URL(f"{right.with_query(None)}?{both}&{query}"))
        assert response.status == 400
    assert await count_sessions(client) == 0


async def test_callback_with_odd_parameters_starts_no_session(client, provider, subtests):
    """Each parameter missing, empty, huge, and not text."""
    for name in ("state", "code", "iss"):
        for value in (None, "", "%00", "%ff", "%ed%a0%80", "a%0d%0aSet-Cookie:%20a=b", "x" * 3000, "x" * 5000):
            if (name, value) == ("iss", None):  # a provider need not say who it is
                continue
            with subtests.test(name=name, value=value and value[:30]):
                right = provider.approve(await begin(client)).without_query_params(name).raw_path_qs
                address = right if value is None else f"{right}&{name}={value}"
                response = await client.get(URL(address, encoded=True), allow_redirects=False)
                assert response.status in (400, 414, 503)
    assert await count_sessions(client) == 0


def change(provider, part=None, changes=None):
    """Change one part of the provider's answers, or none. Userinfo is asked only without an ID token."""
    for each in ODD_PARTS:
        setattr(provider, each, {})
    if part == "userinfo":
        provider.answer = {"id_token": None}
    if part is not None:
        setattr(provider, part, changes)


async def test_odd_answers_of_the_provider_fail_no_request(client, provider):
    """Each member of each answer, with values of all types, at the renewal, the logout and the sign-in."""

    async def status_of(path):
        return (await client.get(path, headers=SAME_ORIGIN, allow_redirects=False)).status

    members = [(part, name) for part, names in ODD_PARTS.items() for name in names.split()]
    for (part, name), value in product(members, ODD_VALUES):
        change(provider)
        await sign_in(client, provider)
        change(provider, part, {name: value})
        statuses = {await status_of("/support/me"), await status_of("/console/logout")}
        response = await client.get("/console/login", allow_redirects=False)
        statuses.add(response.status)
        if response.headers.get("Location", "").startswith(f"{provider.issuer}/authorize?"):
            statuses.add((await come_back(client, provider.approve(response.headers["Location"]))).status)
        assert statuses <= {200, 302, 400, 401, 403, 503}, f"{part} {name}: {value!a}"


async def test_answer_that_is_no_json_object_fails_no_request(client, provider):
    """The provider counts as not answering, and sessions go on."""
    for body in (b"", b"\xff", b"NaN", b"[]", b"{", b'{"id_token":1,"id_token":2}', b"[" * 10_000):
        provider.body = None
        await sign_in(client, provider)
        provider.body = body
        assert (await client.get("/support/me")).status == 200
        assert (await client.get("/console/login", allow_redirects=False)).status == 503
