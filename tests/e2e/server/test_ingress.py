"""HAProxy and nginx as docs/operations/ingress.md configures them, before a service and a replica that is down."""

import asyncio
import re
import ssl
import subprocess
from contextlib import contextmanager
from datetime import timedelta

import aiohttp
import pytest
from yarl import URL

from support_service.platform.settings import LOOPBACK, Settings
from tests.support.calls import eventually, open_case, upload
from tests.support.certificates import CertificateAuthority
from tests.support.process import running
from tests.support.promql import ROOT
from tests.support.servers import accepts, find_binary, free_port, wait_until_ready
from tests.support.stream import follow

pytestmark = pytest.mark.usefixtures("processes", "servers")

PAGE = (ROOT / "docs" / "operations" / "ingress.md").read_text()
(CONFIGURATION,) = re.findall(r"```haproxy\n(.*?)```", PAGE, re.DOTALL)
(NGINX,) = re.findall(r"```nginx\n(.*?)```", PAGE, re.DOTALL)
(COMMAND,) = re.findall(r"\$ (SUPPORT_.*) support-service serve", PAGE)
PROXY, DOWN = "127.0.0.1", "127.0.0.2"


@contextmanager
def running_haproxy(folder, configuration, port):
    file = folder / "haproxy.cfg"
    file.write_text(configuration)
    with running_proxy([find_binary("haproxy"), "-db", "-f", file], folder / "haproxy.log", port):
        yield


@contextmanager
def running_nginx(folder, authority, port, service):
    """Run the page's block with connections to the service that all clients share."""
    changed = {
        "443 ssl": f"{PROXY}:{port} ssl",
        "/etc/nginx/support.key": (key := str(authority.issue(timedelta(days=1)))),
    }
    changed |= {"/etc/nginx/support.crt": key, "http_version 1.1;": 'http_version 1.1; proxy_set_header Connection "";'}
    block = re.sub("|".join(map(re.escape, changed)), lambda found: changed[found[0]], NGINX)
    upstream = (
        f"upstream support {{ server {PROXY}:{service}; keepalive 8; }} access_log off; client_body_temp_path body;"
    )
    file = folder / "nginx.conf"
    file.write_text(f"daemon off; master_process off; pid pid; events {{}} http {{ {upstream} {block} }}")
    with running_proxy([find_binary("nginx"), "-p", folder, "-e", "stderr", "-c", file], folder / "nginx.log", port):
        yield


@contextmanager
def running_proxy(command, log, port):
    with log.open("wb") as out, subprocess.Popen(command, stderr=out) as process:
        try:
            wait_until_ready(lambda: accepts(port), process, log)
            yield
        finally:
            process.kill()


@pytest.fixture
def limit():
    return "off"


def configuration_of(authority, plain, encrypted, service):
    """Return the page's configuration, with these ports."""
    changed = {
        "bind :80\n": f"bind {PROXY}:{plain}\n",
        "bind :443 ": f"bind {PROXY}:{encrypted} ",
        "/etc/haproxy/support.pem": str(authority.issue(timedelta(days=1))),
        "timeout connect 1s\n": "timeout connect 1s\n    timeout check 60s\n",  # of a service on a busy machine
        "10.0.0.11:8000": f"{PROXY}:{service}",
        "10.0.0.12:8000": f"{DOWN}:{service}",
    }
    return re.sub("|".join(map(re.escape, changed)), lambda found: changed[found[0]], CONFIGURATION)


@pytest.fixture
async def addresses(migrated_folder, tmp_path, limit):
    """The plain and the encrypted address of HAProxy, with the service behind it, and whom to trust."""
    service, plain, encrypted = free_port(), free_port(), free_port()
    authority = CertificateAuthority(tmp_path)
    configuration = configuration_of(authority, plain, encrypted, service)
    variables = {"SUPPORT_TRUSTED_PROXIES": PROXY, "SUPPORT_PORT": str(service), "SUPPORT_RATE_LIMIT_ADDRESS": limit}
    async with running("serve", cwd=migrated_folder, **variables) as process:
        await process.wait_until_ready(f"http://{PROXY}:{service}")
        with running_haproxy(tmp_path, configuration, encrypted):
            yield f"http://{PROXY}:{plain}", f"https://{PROXY}:{encrypted}", authority.certificate


@pytest.fixture
async def session(addresses):
    _, encrypted, certificate = addresses
    trusting = ssl.create_default_context(cafile=certificate)
    async with aiohttp.ClientSession(encrypted, connector=aiohttp.TCPConnector(ssl=trusting)) as session:
        yield session


def test_service_of_the_page_listens_for_other_machines():
    """The page's variables start it, and HAProxy, on a machine of its own, reaches it."""
    settings = Settings.load_to_serve(dict(each.split("=", 1) for each in COMMAND.split()))
    assert settings.server.host not in LOOPBACK


async def test_clients_use_tls_and_reach_what_is_for_them(addresses, session):
    """Plain HTTP is led to TLS, and a POST stays a POST. Answers of the service tell browsers to stay with TLS.

    HAProxy itself refuses metrics, however the path is written. A file of 20 MiB is stored, and a change arrives while
    the stream is open.
    """
    plain, encrypted, _ = addresses
    async with session.post(f"{plain}/support/cases?q=1", allow_redirects=False) as response:
        assert response.status == 308
        assert response.headers["Location"] == f"{plain.replace('http', 'https')}/support/cases?q=1"
    async with session.get("/livez") as response:
        assert response.headers["Strict-Transport-Security"] in PAGE
    for path in ("/metrics", "/%6detrics", "/%6Detric%73?x=1"):
        async with session.get(URL(f"{encrypted}{path}", encoded=True)) as response:
            assert (response.status, response.content_type) == (404, "text/html"), path
    async with follow(session) as stream:
        case = await open_case(session)
        stored = await upload(session, case, bytes(20 * 1024 * 1024), filename="film.bin")
        await eventually(lambda: case["id"] in {event.data["caseId"] for event in stream.changes})
    assert stored["sizeBytes"] == 20 * 1024 * 1024


async def test_clients_get_a_problem_while_no_replica_is_ready(tmp_path):
    """The answer is HAProxy's own, in the form that clients know from the service. It says when to try again."""
    plain, encrypted = free_port(), free_port()
    authority = CertificateAuthority(tmp_path)
    trusting = ssl.create_default_context(cafile=authority.certificate)
    configuration = configuration_of(authority, plain, encrypted, free_port())
    with running_haproxy(tmp_path, configuration, encrypted):
        async with aiohttp.request("GET", f"https://{PROXY}:{encrypted}/support/cases", ssl=trusting) as response:
            assert (response.status, response.content_type) == (503, "application/problem+json")
            problem = await response.json(content_type=None)
            assert (problem["status"], problem["code"]) == (503, "no_replica")
            assert int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize("limit", ["3/min"])
async def test_clients_do_not_choose_the_address_by_which_they_are_limited(session):
    """An address in a request is replaced by that of the connection: all requests count for the same one."""
    statuses = []
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"):
        async with session.get("/support/cases", headers={"X-Forwarded-For": address}) as response:
            statuses.append(response.status)
    assert statuses == [200, 200, 200, 429]


ATTACK = (
    b"POST /support/cases/nope/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nAuthorization: Bearer evil\r\nX-Request-Id: evil\r\n\r\n"
)


@pytest.mark.parametrize("proxy", ["HAProxy", "nginx"])
async def test_trailer_is_no_header_of_another_client(migrated_folder, tmp_path, proxy):
    """HAProxy passes trailers on, nginx drops them. Both give a connection to the service to the next client."""
    service, plain, encrypted = free_port(), free_port(), free_port()
    authority = CertificateAuthority(tmp_path)
    trusting = ssl.create_default_context(cafile=authority.certificate)
    if proxy == "nginx":
        proxied = running_nginx(tmp_path, authority, encrypted, service)
    else:
        configuration = configuration_of(authority, plain, encrypted, service)
        shared = configuration.replace("option httpchk", "http-reuse always\n    option httpchk")
        proxied = running_haproxy(tmp_path, shared, encrypted)
    async with (
        running("serve", cwd=migrated_folder, SUPPORT_TRUSTED_PROXIES=PROXY, SUPPORT_PORT=str(service)) as process,
        aiohttp.ClientSession(f"https://{PROXY}:{encrypted}", connector=aiohttp.TCPConnector(ssl=trusting)) as victim,
    ):
        await process.wait_until_ready(f"http://{PROXY}:{service}")
        with proxied:
            for _ in range(20):
                reader, writer = await asyncio.open_connection(PROXY, encrypted, ssl=trusting)
                writer.write(ATTACK)
                assert b" 422 " in await reader.readuntil(b"\r\n")
                async with victim.get("/support/cases") as response:
                    assert (response.status, response.headers["X-Request-Id"] == "evil") == (200, False)
                writer.close()
