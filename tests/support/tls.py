"""TLS servers that nobody has to trust."""

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path

from tests.support.certificates import CertificateAuthority
from tests.support.servers import free_port


async def start_tls_server(folder: Path, days: int) -> tuple[asyncio.Server, str]:
    """Start a server that closes each connection; its certificate is valid for `days` days, expired if negative.

    Returns the server and its URL. The certificate is of an unknown issuer, and for another name than that of the URL.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CertificateAuthority(folder).issue(timedelta(days=days)))
    port = free_port()
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port, ssl=context)
    return server, f"https://localhost:{port}/path"
