"""What browsers are told, and which of their pages may call."""

from itertools import product

import pytest

from tests.support.calls import expect_json, expect_problem, form, open_case, upload
from tests.support.raw_requests import MALFORMED, TOO_LARGE, send_raw

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "support-service",
}
DESK = "https://desk.example"
FOREIGN = "https://evil.example"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def client(shared_client):
    """A client of one service for all tests of this module."""
    return shared_client


def check(headers):
    """Every security header is there once, and nothing tells what the service is made of."""
    for name, value in ALWAYS.items():
        assert headers.getall(name) == [value], name
    assert headers["Content-Security-Policy"]
    assert headers["Cache-Control"]
    assert "Strict-Transport-Security" not in headers


async def test_every_response_has_each_security_header_once(client):
    """JSON, problems, pages, metrics, files and 304."""
    case = await open_case(client)
    file = (await upload(client, case))["uri"]
    for method, path, headers, status in (
        ("GET", "/support/cases", {}, 200),
        ("HEAD", "/support/cases", {}, 200),
        ("GET", "/support/cases/nobody", {}, 404),
        ("GET", "/nowhere", {}, 404),
        ("PUT", "/support/cases", {}, 405),
        ("OPTIONS", "/support/cases", {}, 405),
        ("POST", "/support/cases", JSON, 400),
        ("GET", "/docs", {}, 200),
        ("GET", "/openapi.json", {}, 200),
        ("GET", "/metrics", {}, 200),
        ("GET", "/livez", {}, 200),
        ("GET", file, {}, 200),
        ("GET", file, {"Range": "bytes=1-2"}, 206),
        ("GET", file, {"If-None-Match": "*"}, 304),
        ("GET", "/support/cases", {"Expect": "foo"}, 417),
        ("GET", "/support/cases", {"Host": "evil.example"}, 421),
    ):
        async with client.request(method, path, headers=headers) as response:
            assert response.status == status, (method, path)
            check(response.headers)


async def test_api_responses_are_not_cached_unless_they_allow_it(client):
    """The default is `no-store`."""
    case = await open_case(client)
    file = (await upload(client, case))["uri"]
    for path, rule in (("/support/cases", "no-store"), ("/nowhere", "no-store"), (file, "private, no-cache")):
        async with client.get(path) as response:
            assert response.headers.getall("Cache-Control") == [rule]


async def test_response_to_malformed_http_has_the_security_headers(client, subtests):
    """It is created below every handler."""
    for name, raw in (MALFORMED | {name: raw.encode() for name, (raw, *_) in TOO_LARGE.items()}).items():
        with subtests.test(name):
            _, head, _ = await send_raw(client.host, client.port, raw)
            assert [head.count(f"\r\n{name}: {value}") for name, value in ALWAYS.items()] == [1] * len(ALWAYS)
            assert "Content-Security-Policy: default-src 'none'" in head
            assert "aiohttp" not in head


async def test_open_service_accepts_loopback_host_names_only(client):
    """Otherwise a page could read cases through DNS rebinding.

    Scrapers and orchestrators use various names, and the responses to them have no case data.
    """
    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1", "127.9.9.9:1", "[::1]:80", "a.localhost"):
        async with client.get("/support/cases", headers={"Host": host}) as response:
            assert response.status == 200, host
    others = ("evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "[2001:db8::1]", "10.0.0.1")
    for host, path in product(others, ("/support/cases", "/docs", "/nowhere")):
        await expect_problem(await client.get(path, headers={"Host": host}), 421, "host_not_allowed")
    names = ("support-service:8000", "10.0.0.7:8000", "evil.example")
    for host, path in product(names, ("/metrics", "/health", "/livez", "/readyz")):
        async with client.get(path, headers={"Host": host}) as response:
            assert response.status == 200, (host, path)


async def test_host_name_of_the_public_url_is_accepted(make_client):
    """Pages of SUPPORT_PUBLIC_URL may call the service, also through a proxy that says nothing about the client."""
    client = await make_client(SUPPORT_PUBLIC_URL="https://support.example/")
    headers = {"Host": "support.example", "Origin": "https://support.example"}
    await expect_json(client.get("/support/cases", headers=headers))
    for other in ("https://support.example:444", "https://127.0.0.1", "null", "https://[", ""):
        response = await client.get("/support/cases", headers=headers | {"Origin": other})
        await expect_problem(response, 403, "origin_not_allowed")


async def test_cross_origin_form_to_an_open_service_is_refused(client, metric_changes):
    """A form of another origin changes nothing, even if it needs no preflight request."""
    path = f"/support/cases/{(await open_case(client))['id']}/attachments"
    own = f"{client.host}:{client.port}"
    for origin in (FOREIGN, "null", "http://localhost:3000", "http://127.0.0.1", f"https://{own}"):
        response = await client.post(path, data=form(b"x"), headers={"Origin": origin})
        await expect_problem(response, 403, "origin_not_allowed")
    assert metric_changes.total("support_attachment_stored_total") == 0
    await expect_json(client.post(path, data=form(b"x"), headers={"Origin": f"http://{own}"}), 201)


async def test_cors_allows_no_origin_by_default(client):
    """No origin may read responses, and no preflight request succeeds."""
    asked = {"Origin": DESK, "Access-Control-Request-Method": "POST"}
    for method in ("GET", "OPTIONS"):
        async with client.request(method, "/support/cases", headers=asked) as response:
            assert response.status == 403
            assert not [name for name in response.headers if name.startswith("Access-Control")]


async def test_configured_origin_may_call_and_read_headers(make_client):
    """Caches learn that the response depends on the origin."""
    client = await make_client(SUPPORT_CORS_ORIGINS=f"https://other.example, {DESK}")
    asked = {"Origin": DESK, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    async with client.options("/support/cases", headers=asked) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == DESK
        assert {"GET", "POST"} <= set(response.headers["Access-Control-Allow-Methods"].split(", "))
        assert "Content-Type" in response.headers["Access-Control-Allow-Headers"]
        assert response.headers["Access-Control-Max-Age"] == "600"
        assert response.headers["Vary"] == "Origin"
    body = {"subject": "A parcel", "channel": "web"}
    async with client.post("/support/cases", json=body, headers={"Origin": DESK}) as response:
        assert response.status == 201
        assert response.headers["Access-Control-Allow-Origin"] == DESK
        assert {"Location", "ETag", "Retry-After", "RateLimit", "X-Request-Id"} <= set(
            response.headers["Access-Control-Expose-Headers"].split(", ")
        )
        check(response.headers)
    await expect_json(client.options("/nowhere", headers=asked), 404)
    async with client.get("/metrics") as response:
        assert response.headers.getall("Vary") == ["Accept, Accept-Encoding", "Origin"]
        assert "Access-Control-Allow-Origin" not in response.headers
    await expect_problem(
        await client.options("/support/cases", headers=asked | {"Origin": FOREIGN}), 403, "origin_not_allowed"
    )


async def test_hsts_is_sent_for_https_only(client, make_shared_client):
    """It is sent only if a trusted proxy reports https."""
    trusting = await make_shared_client(SUPPORT_TRUSTED_PROXIES="127.0.0.0/8")
    distrusting = await make_shared_client(SUPPORT_TRUSTED_PROXIES="10.0.0.0/8")
    for caller, https in (
        *((each, {"https": False}) for each in (client, distrusting)),
        (trusting, {"https": True, "http, HTTPS": True, "https, http": False, "http": False}),
    ):
        for proto, expected in https.items():
            async with caller.get("/support/cases", headers={"X-Forwarded-Proto": proto}) as response:
                sent = response.headers.get("Strict-Transport-Security") == "max-age=31536000"
                assert sent is expected, proto
