"""When certificates expire, read from real TLS servers."""

import pytest

from support_service.platform.certificates import CertificateExpiry
from tests.support.calls import GENEROUS_TIMEOUT
from tests.support.servers import free_port
from tests.support.tls import start_tls_server

DAY = 86_400


@pytest.fixture
def servers():
    servers = []
    yield servers
    for server in servers:
        server.close()


@pytest.fixture
def serve(tmp_path, servers):
    async def start(days):
        server, url = await start_tls_server(tmp_path, days)
        servers.append(server)
        return url

    return start


async def test_valid_and_expired_certificates(serve):
    """An expired certificate, for another name and of an unknown issuer, is read as well; http has none."""
    urls = {"order": await serve(10), "webhook:a": await serve(-2), "payment": "http://127.0.0.1:9"}
    certificates = CertificateExpiry(urls, GENEROUS_TIMEOUT)
    assert certificates.seconds_left() == {}
    await certificates.refresh()
    left = certificates.seconds_left()
    assert left.keys() == {"order", "webhook:a"}
    assert left["order"] == pytest.approx(10 * DAY, abs=60)
    assert left["webhook:a"] == pytest.approx(-2 * DAY, abs=60)


async def test_server_out_of_reach(serve, servers):
    """It has no value, and does not keep the others from being read; a last value is kept."""
    url = await serve(10)
    certificates = CertificateExpiry({"order": url, "keys": f"https://127.0.0.1:{free_port()}"}, GENEROUS_TIMEOUT)
    await certificates.refresh()
    assert certificates.seconds_left().keys() == {"order"}
    servers[0].close()
    await certificates.refresh()
    assert certificates.seconds_left().keys() == {"order"}
