"""When certificates expire, read from real TLS servers."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from support_service.certificates.expiry import CertificateExpiry
from tests.support.calls import GENEROUS_TIMEOUT
from tests.support.servers import free_port

DAY = 86_400


@pytest.fixture
async def serve(tmp_path):
    """Start TLS servers with a certificate that is valid for a number of days; return the URL of each."""
    servers = []

    async def start(days):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somewhere.else")])
        expires = datetime.now(UTC) + timedelta(days=days)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(expires - timedelta(days=90))
            .not_valid_after(expires)
            .sign(key, hashes.SHA256())
        )
        path = tmp_path / f"{days}.pem"
        encoding = serialization.Encoding.PEM
        private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.write_bytes(private + certificate.public_bytes(encoding))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", free_port(), ssl=context)
        servers.append(server)
        return f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/path"

    yield start
    for server in servers:
        server.close()


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


async def test_server_out_of_reach(serve):
    """It has no value, and does not keep the others from being read; a last value is kept."""
    url = await serve(10)
    certificates = CertificateExpiry({"order": url, "keys": f"https://127.0.0.1:{free_port()}"}, GENEROUS_TIMEOUT)
    await certificates.refresh()
    assert certificates.seconds_left().keys() == {"order"}
    certificates._addresses["order"] = ("127.0.0.1", free_port())
    await certificates.refresh()
    assert certificates.seconds_left().keys() == {"order"}
