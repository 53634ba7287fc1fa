"""The door: what a request must carry, what it is told where it does not, and who may see the metrics."""

from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from support_service.access.bearer import extract_bearer_token
from support_service.access.timings import AccessTimings
from support_service.access.token_file import TokenEntry, edit_token_file, hash_token, new_token
from support_service.api.admin import ADMIN_URL
from support_service.app import Timings
from support_service.core.errors import Unauthenticated
from tests.support.calls import eventually, expect_problem
from tests.support.scrape import Scrape

NOW = datetime.now(UTC)
ALL = "0.0.0.0"
SECRET = "scrape-0123456789abcdef"
REALM = 'Bearer realm="support-service"'


@pytest.fixture
def path(tmp_path):
    """Where the file of tokens is."""
    return tmp_path / "tokens.json"


@pytest.fixture
def token(path):
    """A supervisor's token."""
    return add(path, "boss")


@pytest.fixture
async def client(make_client, path, token):
    """A client of a service that asks for tokens."""
    return await make_client(SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(path))


def add(path, name, **fields):
    """Put a token into the file; gives it."""
    token = new_token()
    with edit_token_file(path) as entries:
        entries.append(
            TokenEntry(**{"name": name, "sha256": hash_token(token), "role": "supervisor", "created": NOW} | fields)
        )
    return token


def header(token):
    """The header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


async def test_a_token_opens_the_door(client, token):
    """Who sends a token that is known is served; how the scheme is written does not matter."""
    for scheme in ("Bearer", "bearer", "BEARER", "Bearer "):
        async with client.get("/support/cases", headers={"Authorization": f"{scheme} {token}"}) as response:
            assert response.status == 200
            assert "WWW-Authenticate" not in response.headers


async def test_nobody_gets_in_without_one(client):
    """Who sends none is told how, with nothing wrong to tell of."""
    response = await client.get("/support/cases")
    await expect_problem(response, 401, "token_missing")
    assert response.headers["WWW-Authenticate"] == REALM


@pytest.mark.parametrize(
    "sent",
    [
        "Bearer",
        "Bearer ",
        "Basic Ym9zczpib3Nz",
        "Digest username=boss",
        "Negotiate {}",
        "{}",
        "Token {}",
        "Bearer{}",
        "Bearer\t{}",
        "Bearer {} x",
        "Bearer {},{}",
        'Bearer "{}"',
        "Bearer sup_\xff",
        "Bearer sup_é",
    ],
)
async def test_what_is_no_bearer_token(client, token, sent):
    """Another scheme, no scheme, more than a token: refused, with the reason and never with the token."""
    response = await client.get("/support/cases", headers={"Authorization": sent.replace("{}", token)})
    problem = await expect_problem(response, 401, "token_invalid")
    assert response.headers["WWW-Authenticate"].startswith(f'{REALM}, error="invalid_token", error_description="')
    assert token not in response.headers["WWW-Authenticate"] + problem["detail"]


async def test_two_headers(client, token):
    """Which of two tokens counts is nobody's to guess."""
    for second in (token, "x"):
        headers = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {second}")]
        await expect_problem(await client.get("/support/cases", headers=headers), 401, "token_invalid")


async def test_a_token_elsewhere_is_none(client, token):
    """A query, a form or a cookie carries no token: it would stand in logs."""
    response = await client.get("/support/cases", params={"access_token": token}, cookies={"Authorization": token})
    await expect_problem(response, 401, "token_missing")


async def test_a_long_token(client):
    """What is longer than any token is refused by its length alone: HTTP's own layer does not even read it."""
    for length in (8193, 1 << 20):
        await expect_problem(await client.get("/support/cases", headers=header("x" * length)), 431, "headers_too_large")
        with pytest.raises(Unauthenticated, match="8192"):
            extract_bearer_token([f"Bearer {'x' * length}"])


async def test_an_expired_token(make_client, path, token):
    """A client whose token has expired is told so."""
    timings = Timings(access=AccessTimings(token_file_check_interval=0.01))
    client = await make_client(timings=timings, SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(path))
    late = add(path, "late", created=NOW - timedelta(days=2), expires=NOW - timedelta(days=1))
    assert (await client.get("/support/cases", headers=header(late))).status == 401

    async def known():
        async with client.get("/support/cases", headers=header(late)) as response:
            return (await response.json(content_type=None))["code"] != "token_invalid"

    await eventually(known)
    response = await client.get("/support/cases", headers=header(late))
    await expect_problem(response, 401, "token_expired")
    assert "has expired" in response.headers["WWW-Authenticate"]


async def test_health_asks_nobody(client):
    """Probes need no token."""
    for path in ("/livez", "/readyz", "/health"):
        assert (await client.get(path)).status == 200


async def test_an_open_service_asks_nobody(make_client):
    """Whatever a client of an open service sends along, nobody looks at it, and nothing is counted."""
    client = await make_client()
    for headers in ({}, {"Authorization": "Basic eA=="}, header("x")):
        assert (await client.get("/support/cases", headers=headers)).status == 200
    assert Scrape(client.app).nonzero_labels("support_access_authentications_total") == []


async def test_outcomes_are_counted(client, path, token):
    """Each request that must say who it is counts once, by what came of it; others count nowhere."""
    metrics = Scrape(client.app)
    assert len(metrics.label_sets("support_access_authentications_total")) == 5
    for headers in (header(token), {}, header("x"), {"Authorization": "Basic eA=="}, header(token)):
        await client.get("/support/cases", headers=headers)
    await client.get("/livez")
    assert metrics.nonzero("support_access_authentications_total") == {"accepted": 2, "missing": 1, "invalid": 2}


async def test_metrics_are_closed(client, token):
    """Where tokens are asked for, metrics are open to nobody until they are given a token or a port of their own."""
    for headers in ({}, header(token)):
        problem = await expect_problem(await client.get("/metrics", headers=headers), 403, "metrics_closed")
        assert "SUPPORT_ADMIN_PORT" in problem["detail"]


@pytest.mark.parametrize("auth", ["open", "token"])
async def test_metrics_by_their_own_token(make_client, path, token, auth):
    """With a token of their own the metrics are open to who sends it, and to no one else."""
    client = await make_client(SUPPORT_AUTH=auth, SUPPORT_TOKENS_FILE=str(path), SUPPORT_METRICS_TOKEN=SECRET)
    assert (await client.get("/metrics", headers=header(SECRET))).status == 200
    response = await client.get("/metrics")
    await expect_problem(response, 401, "token_missing")
    assert response.headers["WWW-Authenticate"] == REALM
    for wrong in (token, SECRET[:-1], SECRET + "x", "é"):
        await expect_problem(await client.get("/metrics", headers=header(wrong)), 401, "token_invalid")


@pytest.mark.parametrize("auth", ["open", "token"])
async def test_metrics_on_a_port_of_their_own(make_client, path, token, auth):
    """The other port has metrics and health and nothing more; the main one has health, and no metrics."""
    client = await make_client(SUPPORT_AUTH=auth, SUPPORT_TOKENS_FILE=str(path), SUPPORT_ADMIN_PORT="0")
    await expect_problem(await client.get("/metrics", headers=header(token)), 403, "metrics_closed")
    async with aiohttp.ClientSession(client.app[ADMIN_URL]) as admin:
        async with admin.get("/metrics") as response:
            assert response.status == 200
            assert "support_access_authentications_total" in await response.text()
        for health in ("/health", "/livez", "/readyz"):
            assert (await admin.get(health)).status == 200
            assert (await client.get(health)).status == 200
        for other in ("/support/cases", "/docs", "/openapi.json"):
            await expect_problem(await admin.get(other, headers=header(token)), 404, "route_not_found")


async def test_both_a_port_and_a_token(make_client):
    """Where metrics have both, the port asks for the token, and health on it does not."""
    client = await make_client(SUPPORT_ADMIN_PORT="0", SUPPORT_METRICS_TOKEN=SECRET)
    async with aiohttp.ClientSession(client.app[ADMIN_URL]) as admin:
        await expect_problem(await admin.get("/metrics"), 401, "token_missing")
        assert (await admin.get("/metrics", headers=header(SECRET))).status == 200
        assert (await admin.get("/livez")).status == 200


@pytest.mark.parametrize(
    ("auth", "host", "checks"), [("open", None, True), ("token", None, False), ("open", ALL, False)]
)
async def test_foreign_pages_on_the_other_port(make_client, path, token, auth, host, checks):
    """An open service's port on loopback is closed to pages whose name leads there; one for others asks for no name."""
    client = await make_client(
        SUPPORT_AUTH=auth, SUPPORT_TOKENS_FILE=str(path), SUPPORT_ADMIN_PORT="0", SUPPORT_ADMIN_HOST=host
    )
    address = client.app[ADMIN_URL].replace(ALL, "127.0.0.1")
    async with aiohttp.ClientSession(address) as admin:
        for page, code in (
            ({"Host": "rebound.example"}, "host_not_allowed"),
            ({"Origin": "null"}, "origin_not_allowed"),
        ):
            for target in ("/metrics", "/health"):
                response = await admin.get(target, headers=page)
                if checks:
                    await expect_problem(response, 421 if "Host" in page else 403, code)
                else:
                    assert response.status == 200
        for name in ("localhost", "127.0.0.1:9102", "[::1]:9102"):
            assert (await admin.get("/metrics", headers={"Host": name})).status == 200
