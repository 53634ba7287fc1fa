"""Why a webhook delivery failed: the cause in words, and never the path of the URL, which may be the secret."""

import asyncio
import json
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from tests.support.calls import eventually, open_case
from tests.support.certificates import CertificateAuthority

WEBHOOK_SECRET = "whsec_" + "c2VjcmV0" * 4
PATH = "/hooks/T0P-S3CRET?token=QU3RY-S3CRET"
ALERT = b"\x15\x03\x03\x00\x02\x02"  # TLS: a fatal alert, without its number
HANDSHAKE_FAILURE, UNKNOWN_AUTHORITY = ALERT + b"\x28", ALERT + b"\x30"
HEAD = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def receiver(answer, context=None):
    """Start a server that sends bytes, or the beginning of the request if `answer` is None. Yield its port."""

    async def serve(reader, writer):
        sent = await reader.read(1024)
        writer.write(sent if answer is None else answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def reasons_of(make_client, urls):
    """Fail a delivery to each URL. Return the reasons that the API tells, by the URLs."""
    hooks = [{"name": f"a-{number}", "url": url, "secret": WEBHOOK_SECRET} for number, url in enumerate(urls)]
    client = await make_client(SUPPORT_WEBHOOKS=json.dumps(hooks))
    await open_case(client)

    async def reasons():
        async with client.get("/support/webhook-deliveries", params={"state": "pending"}) as response:
            told = {each["endpoint"]: each["reason"] for each in (await response.json())["items"] if each["reason"]}
        return told if len(told) == len(urls) else None

    told = await eventually(reasons)
    return [told[hook["name"]] for hook in hooks]


async def told_of(make_client, scheme, rows, context=None):
    """Return what is told of endpoints with these answers, without their addresses; and the reasons of the rows."""
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(receiver(answer, context)) for answer, _ in rows]
        told = await reasons_of(make_client, [f"{scheme}127.0.0.1:{port}{PATH}" for port in ports])
    return [each.replace(str(port), "PORT") for each, port in zip(told, ports, strict=True)], [row[1] for row in rows]


async def test_an_unreadable_answer_is_told_by_the_address_alone(make_client, caplog):
    """Neither the list of deliveries nor the log has the path, the query, the password, or what the server sent."""
    rows = [
        (b"\x00\xffgarbage\r\n\r\n", "Bad status line: Expected HTTP/, RTSP/ or ICE/"),
        (None, "Bad status line: Expected HTTP/, RTSP/ or ICE/"),
        (HEAD + b"Not a header\r\n\r\n", "Invalid header token"),
        (HEAD + b"Content-Length: x\r\n\r\n", "Invalid character in Content-Length"),
        (HEAD + b"A: " + b"x" * 20_000 + b"\r\n\r\n", "Got more than 8190 bytes when reading"),
    ]
    told, reasons = await told_of(make_client, "http://user:Pa55word@", rows)
    assert told == [f"the answer of http://127.0.0.1:PORT can't be read: {reason}" for reason in reasons]
    assert caplog.text.count("can't be read: ") >= len(rows)
    for secret in ("T0P-S3CRET", "QU3RY-S3CRET", "Pa55word", "garbage"):
        assert secret not in caplog.text


async def test_a_failed_handshake_is_told_in_the_words_of_tls(make_client, caplog):
    """It reads like no error of the operating system, such as a missing permission."""
    rows = [
        (b"HTTP/1.1 400 -\r\n\r\n", "TLS failed: wrong version number"),
        (HANDSHAKE_FAILURE, "TLS failed: ssl/tls alert handshake failure"),
        (UNKNOWN_AUTHORITY, "TLS failed: tlsv1 alert unknown ca"),
        (b"", "the server closed the connection"),
    ]
    told, reasons = await told_of(make_client, "https://", rows)
    assert [each.replace("sslv3", "ssl/tls") for each in told] == [  # the older OpenSSL's name of the alert
        f"can't connect to 127.0.0.1:PORT: {reason}" for reason in reasons
    ]
    assert "S3CRET" not in caplog.text


async def test_a_certificate_that_is_not_trusted_is_told_with_the_reason(make_client, tmp_path):
    """The reason is that of the verification, without the codes of the library."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CertificateAuthority(tmp_path).issue(timedelta(days=10)))
    told, reasons = await told_of(make_client, "https://", [(b"", "unable to get local issuer certificate")], context)
    assert told == [f"the certificate of 127.0.0.1:PORT is not valid: {reasons[0]}"]
