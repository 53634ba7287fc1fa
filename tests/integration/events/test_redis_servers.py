"""The kinds of Redis that companies run: TLS, a user with few rights, Valkey; a cluster is refused."""

import asyncio
import re
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web
from redis.asyncio import Redis

from support_service.app import build_app
from support_service.core.errors import UserError
from support_service.platform.redis import create_pool
from support_service.platform.settings import Settings
from tests.support.calls import add_message, eventually, expect_json, open_case, read_detail, refresh
from tests.support.certificates import CertificateAuthority
from tests.support.events.fixtures import read_published, send_inbound, shipment_event
from tests.support.events.inbound import SENTENCE, about, wait_for_messages
from tests.support.sentinels import SERVICE, Sentinel
from tests.support.servers import RedisServer, free_port

PAGE = Path("docs/operations/redis.md")
PASSWORD = "correct horse battery"


@pytest.fixture
def start_redis(servers, tmp_path):
    started = []

    def start(program="redis", **options):
        folder = tmp_path / f"redis-{len(started)}"
        folder.mkdir()
        started.append(RedisServer(folder, program, **options))
        started[-1].start()
        return started[-1]

    yield start
    for server in started:
        server.close()


async def use_everything(client, stream):
    """Do what needs Redis: events in both directions, dead letters, the cached timeline, the stream, presence."""
    case = await open_case(client, **about("order", "order-456"))
    await add_message(client, case)
    for _ in range(2):
        await read_detail(client, case)
    await refresh(client, case)
    await send_inbound(stream, shipment_event("e-1"))
    await send_inbound(stream, b"{")
    await expect_json(client.post("/support/events", json=shipment_event("e-2", trackingNumber="ZX124")), 202)
    await wait_for_messages(client, case, ["Hello", SENTENCE, SENTENCE.replace("ZX123", "ZX124")])

    async def letters():
        return (await expect_json(client.get("/support/dead-letters")))["items"]

    (letter,) = await eventually(letters)
    await expect_json(client.post(f"/support/dead-letters/{letter['id']}/replay"), 204)
    (letter,) = await eventually(letters)
    await expect_json(client.delete(f"/support/dead-letters/{letter['id']}"), 204)
    await expect_json(client.put(f"/support/cases/{case['id']}/presence", json={"state": "typing"}), 204)
    await eventually(lambda: read_published(stream))


@pytest.fixture
def acl_line():
    """The line of the page, for a user with the password of the tests."""
    (line,) = re.findall(r"^user support (?:.*\\\n)*.*", PAGE.read_text(), re.MULTILINE)
    return re.sub(r">PASSWORD\b", f"#{sha256(PASSWORD.encode()).hexdigest()}", line.replace("\\\n", ""))


async def test_user_with_the_documented_rights_may_do_everything_that_the_service_does(
    upstream_services, make_client, start_redis, acl_line
):
    """Over TLS with a private authority and a client certificate. Redis refuses it no command and no key."""
    server = start_redis(user=acl_line.removeprefix("user "))
    client = await make_client(SUPPORT_REDIS_URL=server.url.replace("//", f"//support:{quote(PASSWORD)}@"))
    async with Redis.from_url(server.url) as stream:
        await use_everything(client, stream)
        assert await stream.acl_log() == []


async def test_connections_are_encrypted_with_certificates_of_a_private_authority(make_client, start_redis, tmp_path):
    """On both sides. Without the certificate of the client, nothing is read or written."""
    authority = CertificateAuthority(tmp_path)
    certificate = authority.issue(timedelta(days=1))
    port = free_port()
    server = start_redis(
        tls_port=port,
        tls_cert_file=certificate,
        tls_key_file=certificate,
        tls_ca_cert_file=authority.certificate,
        tls_auth_clients="yes",
    )
    url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority.certificate}"
    own = authority.issue(timedelta(days=1))
    client = await make_client(SUPPORT_REDIS_URL=f"{url}&ssl_certfile={own}&ssl_keyfile={own}")
    async with Redis.from_url(server.url) as stream:
        await use_everything(client, stream)
    assert (await expect_json(client.get("/readyz")))["cache"] == "ok"
    other = await make_client(SUPPORT_REDIS_URL=url)
    assert (await expect_json(other.get("/readyz")))["cache"] == "cache_unavailable"


async def test_valkey_works(make_client, start_redis):
    """As Redis does."""
    server = start_redis("valkey")
    client = await make_client(SUPPORT_REDIS_URL=server.url)
    async with Redis.from_url(server.url) as stream:
        await use_everything(client, stream)


@pytest.fixture
def cluster_node(start_redis):
    return start_redis(cluster_enabled="yes", cluster_port=str(free_port())).port


@pytest.fixture
def sentinel(servers, tmp_path):
    server = Sentinel(tmp_path / "sentinel", free_port())
    yield server.port
    server.close()


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    ("server", "reason"),
    [("cluster_node", "is a node of a Redis Cluster"), ("sentinel", "is a Sentinel: write redis+sentinel://")],
)
async def test_start_with_a_cluster_or_a_sentinel_is_refused(request, environment, server, reason, protocol):
    """One line names the variable and what to do. A cluster refuses operations on several keys."""
    url = f"redis://127.0.0.1:{request.getfixturevalue(server)}/0?protocol={protocol}"
    app, _ = build_app(Settings.load(environment | {"SUPPORT_REDIS_URL": url}))
    runner = web.AppRunner(app)
    with pytest.raises(UserError, match=f"SUPPORT_REDIS_URL: the server at this URL {re.escape(reason)}"):
        await runner.setup()
    await runner.cleanup()


async def test_no_sentinel_is_lost_when_many_ask_at_once(start_redis, tmp_path):
    """The first Sentinel is down, and connections ask the next one at the same time."""
    primary = start_redis().port
    sentinels = [Sentinel(tmp_path / f"sentinel-{number}", primary) for number in range(2)]
    try:
        ports = [free_port(), *(each.port for each in sentinels)]
        pool = create_pool(f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/{SERVICE}/0")
        addresses = await asyncio.gather(*(pool.get_master_address() for _ in range(8)))
        assert set(addresses) == {("127.0.0.1", primary)}
        known = [each.connection_pool.connection_kwargs["port"] for each in pool.sentinel_manager.sentinels]
        assert sorted(known) == sorted(ports)
        assert known[0] in ports[1:]
        await pool.aclose()
    finally:
        for each in sentinels:
            each.close()
