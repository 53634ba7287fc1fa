"""Authentication: which tokens are accepted, how others are refused, and who may read the metrics."""

import asyncio
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from support_service.core.domain.principals import Principal
from support_service.core.errors import Unauthenticated
from support_service.platform.access.authenticator import extract_bearer_token
from support_service.platform.access.timings import AccessTimings
from support_service.platform.access.tokens import TokenEntry, edit_token_file, hash_token, new_token
from support_service.timings import Timings
from tests.support.access.fixtures import AUDIENCE, ISSUER
from tests.support.calls import eventually, expect_json, expect_problem, stored_files
from tests.support.each import each_row
from tests.support.scrape import Changes, Scrape
from tests.support.service import service_of

NOW = datetime.now(UTC)
ALL = "0.0.0.0"
SECRET = "scrape-0123456789abcdef"
REALM = 'Bearer realm="support-service"'


@pytest.fixture
def path(tmp_path):
    """The path of the token file."""
    return tmp_path / "tokens.json"


@pytest.fixture
def token(path):
    return add_token(path, "boss")


@pytest.fixture(scope="module")
def shared_path(tmp_path_factory):
    """The path of the token file of the service that tests of this module share."""
    return tmp_path_factory.mktemp("shared") / "tokens.json"


@pytest.fixture(scope="module")
def shared_token(shared_path):
    """A supervisor's token for that service."""
    return add_token(shared_path, "boss")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(make_shared_client, shared_path, shared_token):
    """A client of one service for all tests of this module that change nothing, which requires tokens."""
    return await make_shared_client(SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(shared_path))


def add_token(path, name, **fields):
    """Add a token to the file; return it."""
    token = new_token()
    with edit_token_file(path) as entries:
        entries.append(
            TokenEntry(**{"name": name, "sha256": hash_token(token), "role": "supervisor", "created": NOW} | fields)
        )
    return token


def bearer_header(token):
    return {"Authorization": f"Bearer {token}"}


async def test_valid_token_is_accepted(client, shared_token):
    """The case of the scheme and extra spaces after it do not matter."""
    for scheme in ("Bearer", "bearer", "BEARER", "Bearer "):
        async with client.get("/support/cases", headers={"Authorization": f"{scheme} {shared_token}"}) as response:
            assert response.status == 200
            assert "WWW-Authenticate" not in response.headers


MALFORMED_AUTHORIZATION_HEADER_IS_REFUSED = [
    *("Bearer", "Bearer ", "Basic Ym9zczpib3Nz", "Digest username=boss", "Negotiate {}", "{}", "Token {}"),
    *("Bearer{}", "Bearer\t{}", "Bearer {} x", "Bearer {},{}", 'Bearer "{}"'),
    *("Bearer sup_\xff", "Bearer sup_é"),
]


@each_row("sent", MALFORMED_AUTHORIZATION_HEADER_IS_REFUSED)
async def test_malformed_authorization_header_is_refused(client, shared_token, sent):
    """The response has the reason and never the token."""
    response = await client.get("/support/cases", headers={"Authorization": sent.replace("{}", shared_token)})
    problem = await expect_problem(response, 401, "token_invalid")
    assert response.headers["WWW-Authenticate"].startswith(f'{REALM}, error="invalid_token", error_description="')
    assert shared_token not in response.headers["WWW-Authenticate"] + problem["detail"]


async def test_request_without_a_token_is_refused(client, shared_token):
    """The challenge names the scheme and no error. A token in a query or cookie is ignored: it would appear in logs."""
    for sent in ({}, {"params": {"access_token": shared_token}, "cookies": {"Authorization": shared_token}}):
        response = await client.get("/support/cases", **sent)
        await expect_problem(response, 401, "token_missing")
        assert response.headers["WWW-Authenticate"] == REALM


async def test_overlong_token_and_two_tokens_are_refused(client, shared_token):
    """The HTTP layer refuses a long one before it is read. The service does not choose between two."""
    for length in (8193, 1 << 20):
        request = client.get("/support/cases", headers=bearer_header("x" * length))
        await expect_problem(request, 431, "headers_too_large")
        with pytest.raises(Unauthenticated, match="8192"):
            extract_bearer_token([f"Bearer {'x' * length}"])
    for second in (shared_token, "x"):
        headers = [("Authorization", f"Bearer {shared_token}"), ("Authorization", f"Bearer {second}")]
        await expect_problem(client.get("/support/cases", headers=headers), 401, "token_invalid")


async def test_expired_token_is_refused_with_its_own_code(quick_client, shared_path):
    """It is known from when the service reloads the file."""
    client, _ = quick_client
    expired = add_token(shared_path, "late", created=NOW - timedelta(days=2), expires=NOW - timedelta(days=1))

    async def is_known():
        return await principal_of(client, expired) != "token_invalid"

    await eventually(is_known)
    response = await client.get("/support/cases", headers=bearer_header(expired))
    await expect_problem(response, 401, "token_expired")
    assert "has expired" in response.headers["WWW-Authenticate"]


class SlowUpload:
    """An upload whose last bytes are sent when the test says so."""

    def __init__(self, client, case, token, **headers):
        self._rest, self._headers = asyncio.Event(), bearer_header(token) | headers
        self._headers["Content-Type"] = "multipart/form-data; boundary=b"
        self.task = asyncio.create_task(self._send(client, f"/support/cases/{case['id']}/attachments"))

    async def _send(self, client, path):
        async with client.post(path, data=self._body(), headers=self._headers) as response:
            return response.status, await response.json(content_type=None)

    async def _body(self):
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhello'
        await self._rest.wait()
        yield b"\r\n--b--\r\n"

    async def finish(self):
        """Send the rest. Return the status and the answer."""
        self._rest.set()
        return await self.task


@pytest.fixture(scope="module")
def quick_files(tmp_path_factory):
    return tmp_path_factory.mktemp("attachments")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def quick_client(make_shared_client, shared_path, shared_token, quick_files):
    """A client of a service that reads changes of the token file at once, and a case."""
    timings = Timings(access=AccessTimings(token_file_check_interval=0.01))
    variables = {"SUPPORT_TOKENS_FILE": str(shared_path), "SUPPORT_ATTACHMENT_DIR": str(quick_files)}
    client = await make_shared_client(timings=timings, SUPPORT_AUTH="token", **variables)
    new = {"subject": "A", "channel": "email"}
    return client, await expect_json(client.post("/support/cases", json=new, headers=bearer_header(shared_token)), 201)


SLOW = Principal("slow", "supervisor", None, frozenset())


def change_slow_token(path, **change):
    with edit_token_file(path) as entries:
        entries[:] = [entry.model_copy(update=change) if entry.name == "slow" else entry for entry in entries]


async def principal_of(client, token):
    """The principal that a token has at present, or the code with which it is refused."""
    try:
        return await service_of(client).authenticator.authenticate([f"Bearer {token}"])
    except Unauthenticated as refusal:
        return refusal.code


def uploads(client):
    """The number of uploads in progress."""
    return Scrape(service_of(client).metrics).value("support_attachment_uploads")


@pytest.mark.parametrize(
    "change", [{"revoked": NOW}, {"role": "analyst"}, {"role": "agent", "subject": "agent-7"}, {"expires": NOW}]
)
@pytest.mark.parametrize("key", [None, "key"], ids=["plain", "with a key"])
async def test_upload_whose_token_changes_meanwhile(quick_client, shared_path, shared_token, quick_files, change, key):
    """The token is verified again when the file has arrived: nothing is stored.

    A token that expires was valid when the upload began; uploads may take longer than short-lived tokens last.
    """
    client, case = quick_client
    with edit_token_file(shared_path) as entries:
        entries[:] = [entry for entry in entries if entry.name != "slow"]
    slow, stored = add_token(shared_path, "slow"), len(stored_files(quick_files))
    headers = {"Idempotency-Key": f"{key}-{slow[-20:]}"} if key else {}

    async def is_slow():
        return await principal_of(client, slow) == SLOW

    async def is_changed():
        return not await is_slow()

    await eventually(is_slow)
    upload = SlowUpload(client, case, slow, **headers)
    await eventually(lambda: uploads(client) == 1)
    change_slow_token(shared_path, **change)
    await eventually(is_changed)
    status, answer = await upload.finish()
    accepted = "expires" in change
    assert (status, answer.get("code")) == ((201, None) if accepted else (401, "token_invalid"))
    assert len(stored_files(quick_files)) == stored + accepted
    listing = client.get(f"/support/cases/{case['id']}/attachments", headers=bearer_header(shared_token))
    assert len(await expect_json(listing)) == stored + accepted


async def test_health_and_metrics_need_no_token_by_default(client, shared_token):
    """A scraper needs neither a token nor a second port."""
    for path in ("/livez", "/readyz", "/health", "/metrics"):
        for headers in ({}, bearer_header(shared_token), {"Host": "support-service:8000"}):
            assert (await client.get(path, headers=headers)).status == 200


async def test_open_service_ignores_authorization_headers(make_client):
    """No authentication is counted."""
    client = await make_client()
    for headers in ({}, {"Authorization": "Basic eA=="}, bearer_header("x")):
        assert (await client.get("/support/cases", headers=headers)).status == 200
    assert Scrape(service_of(client).metrics).nonzero_labels("support_access_authentications_total") == []
    assert Scrape(service_of(client).metrics).label_sets("support_access_callers") == []


async def test_authentications_are_counted_by_outcome(client, shared_token):
    """Requests that need no token do not count."""
    metrics = Changes(service_of(client).metrics)
    assert len(metrics.label_sets("support_access_authentications_total")) == 5
    for headers in (
        bearer_header(shared_token),
        {},
        bearer_header("x"),
        {"Authorization": "Basic eA=="},
        bearer_header(shared_token),
    ):
        await client.get("/support/cases", headers=headers)
    await client.get("/livez")
    assert metrics.nonzero("support_access_authentications_total") == {"accepted": 2, "missing": 1, "invalid": 2}


async def test_callers_are_counted_and_the_refused_are_named(make_client, path, token, caplog):
    """A caller with an expired token, and one who may change nothing, beside one who is served; never the probe."""
    expired = add_token(path, "crm-sync", expires=NOW - timedelta(hours=1))
    analyst = add_token(path, "ann", role="analyst")
    client = await make_client(SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(path))
    case = {"subject": "A parcel", "channel": "email"}
    for _ in range(3):
        for each, status in ((token, 201), (expired, 401), (analyst, 403)):
            await expect_json(client.post("/support/cases", json=case, headers=bearer_header(each)), status)
        probing = bearer_header(expired) | {"User-Agent": "support-service-probe/1"}
        await expect_problem(client.get("/support/cases", headers=probing), 401, "token_expired")
    counted = Scrape(service_of(client).metrics).nonzero("support_access_callers")
    assert counted == {"accepted": 2, "refused": 1, "writing": 2, "forbidden": 1}
    lines = [line for line in caplog.messages if "are refused" in line]
    assert lines == [
        "Requests of crm-sync from 127.0.0.1 are refused: token_expired (2 since the last such line)",
        "Changes of ann from 127.0.0.1 are refused: permission_missing (2 since the last such line)",
    ]


@pytest.mark.parametrize("auth", ["open", "token"])
async def test_only_the_metrics_token_gives_access_to_metrics(make_client, path, token, auth):
    """Other tokens are refused, whether the service requires tokens or not."""
    client = await make_client(SUPPORT_AUTH=auth, SUPPORT_TOKENS_FILE=str(path), SUPPORT_METRICS_TOKEN=SECRET)
    assert (await client.get("/metrics", headers=bearer_header(SECRET))).status == 200
    response = await client.get("/metrics")
    await expect_problem(response, 401, "token_missing")
    assert response.headers["WWW-Authenticate"] == REALM
    for wrong in (token, SECRET[:-1], SECRET + "x", "é"):
        await expect_problem(client.get("/metrics", headers=bearer_header(wrong)), 401, "token_invalid")


@pytest.mark.parametrize("auth", ["open", "token"])
async def test_admin_port_serves_only_metrics_and_health(make_client, path, token, auth):
    """The main port then has health and no metrics."""
    client = await make_client(SUPPORT_AUTH=auth, SUPPORT_TOKENS_FILE=str(path), SUPPORT_ADMIN_PORT="0")
    problem = await expect_problem(client.get("/metrics", headers=bearer_header(token)), 403, "metrics_closed")
    assert "SUPPORT_ADMIN_PORT" in problem["detail"]
    async with aiohttp.ClientSession(service_of(client).admin_url) as admin:
        async with admin.get("/metrics") as response:
            assert response.status == 200
            assert "support_access_authentications_total" in await response.text()
        for health in ("/health", "/livez", "/readyz"):
            assert (await admin.get(health)).status == 200
            assert (await client.get(health)).status == 200
        for other in ("/support/cases", "/docs", "/openapi.json"):
            await expect_problem(admin.get(other, headers=bearer_header(token)), 404, "route_not_found")


@pytest.mark.parametrize("host", [None, ALL])
async def test_admin_port_answers_under_any_host_name(make_client, host):
    """Prometheus and orchestrators use the name or the address of the container. Only metrics require their token."""
    client = await make_client(SUPPORT_ADMIN_PORT="0", SUPPORT_ADMIN_HOST=host, SUPPORT_METRICS_TOKEN=SECRET)
    address = service_of(client).admin_url.replace(ALL, "127.0.0.1")
    async with aiohttp.ClientSession(address) as admin:
        await expect_problem(admin.get("/metrics"), 401, "token_missing")
        for target in ("/metrics", "/health", "/livez", "/readyz"):
            for name in ("support-service:9100", "10.0.0.7:9100", "localhost", "[::1]:9102"):
                sent = bearer_header(SECRET) if target == "/metrics" else {}
                assert (await admin.get(target, headers={"Host": name, **sent})).status == 200


async def test_requests_for_the_keys_are_measured(make_client, issuer):
    """The time of the issuer's answers is a metric by the semantic conventions, like that of webhooks."""
    client = await make_client(
        SUPPORT_AUTH="jwt",
        SUPPORT_JWT_KEYS=issuer.jwks_location,
        SUPPORT_JWT_ISSUER=ISSUER,
        SUPPORT_JWT_AUDIENCE=AUDIENCE,
    )
    url = URL(issuer.jwks_location)
    (labels,) = Scrape(service_of(client).metrics).label_sets("http_client_request_duration_seconds_count")
    assert (
        labels.items()
        >= {
            "http_request_method": "GET",
            "server_address": url.host,
            "server_port": str(url.port),
            "http_response_status_code": "200",
        }.items()
    )
