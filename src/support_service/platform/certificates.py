"""A gauge of the time until the certificates of the called servers expire, read by TLS handshakes."""

import asyncio
import logging
import ssl
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from support_service.core.os_errors import describe_os_error
from support_service.platform.background import Job
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec

HTTPS_PORT = 443
READ_TIMEOUT = 5.0  # seconds

log = logging.getLogger(__name__)

CERTIFICATE_EXPIRES = InstrumentSpec(
    "support.certificate.expires",
    "gauge",
    "s",
    "Time until the certificate of a server expires that the service calls over https, read every hour. Targets are "
    "the upstream services, keys (`SUPPORT_JWT_KEYS`), provider (`SUPPORT_OIDC_ISSUER`), s3, and webhook:NAME",
    {"target": None},
)

FIRST_READ_DELAY = 5.0  # so that a start does not wait for other servers
READ_INTERVAL = 3600.0  # seconds


def watch_certificates(urls: Mapping[str, str], instruments: Instruments) -> list[Job]:
    """Return the job that keeps the gauge for each target that has an https URL, if any has; `urls` are by target."""
    if not any(url.startswith("https:") for url in urls.values()):
        return []
    certificates = CertificateExpiry(urls)
    instruments.observe(
        CERTIFICATE_EXPIRES,
        lambda: [(left, {"target": target}) for target, left in certificates.seconds_left().items()],
    )
    return [Job("Reading the certificates of other servers", READ_INTERVAL, certificates.refresh, FIRST_READ_DELAY)]


class CertificateExpiry:
    """The expiry of the certificate of each target that has an `https` URL; `urls` are by target."""

    def __init__(self, urls: Mapping[str, str], timeout: float = READ_TIMEOUT) -> None:
        self._addresses = {
            target: (parts.hostname, parts.port or HTTPS_PORT)
            for target, parts in ((target, urlsplit(url)) for target, url in urls.items())
            if parts.scheme == "https" and parts.hostname
        }
        self._timeout = timeout
        self._expires: dict[str, float] = {}  # Unix time, by target

    def seconds_left(self) -> dict[str, float]:
        """Return the seconds until each known certificate expires, negative after that."""
        now = time.time()
        return {target: expires - now for target, expires in self._expires.items()}

    async def refresh(self) -> None:
        """Read the certificates again. Of a server that can't be reached, the last one known is kept."""
        await asyncio.gather(*map(self._read, self._addresses))

    async def _read(self, target: str) -> None:
        host, port = self._addresses[target]
        try:
            async with asyncio.timeout(self._timeout):
                self._expires[target] = await _read_expiry(host, port)
        except (OSError, ValueError) as failure:
            log.info("The certificate of %s (%s:%d) can't be read: %s", target, host, port, describe_os_error(failure))


async def _read_expiry(host: str, port: int) -> float:
    """Return when a server's certificate expires, in Unix time. Raises OSError (ssl.SSLError is one) and ValueError."""
    from cryptography import x509  # noqa: PLC0415 - only a server with an https URL needs it

    context = ssl.create_default_context()
    # The certificate is only read, and an expired one must be readable; nothing is sent over this connection.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    return x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()
