"""Uploads as bytes: parts of a multipart body, invalid bodies, and uploads of which only a part is sent."""

import asyncio

MAX = 1000  # bytes that a file may have where `BODIES` are sent
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
OTHER = b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n'
END = b"\r\n--b--\r\n"
FORM = "multipart/form-data; boundary=b"
MALFORMED, UNSUPPORTED = (400, "malformed_multipart"), (415, "unsupported_type")
BODIES = {
    "no file part": (OTHER + b"--b--\r\n", FORM, 422, "file_missing"),
    "no part at all": (b"--b--\r\n", FORM, 422, "file_missing"),
    "two file parts": (PART + b"one\r\n" + PART + b"two" + END, FORM, 422, "file_repeated"),
    "two file parts, one empty": (PART + b"one\r\n" + PART + END, FORM, 422, "file_repeated"),
    "an empty body": (b"", FORM, *MALFORMED),
    "a body without the boundary": (b"x" * 500, FORM, *MALFORMED),
    "a long body without the boundary": (b"x" * 50_000, FORM, *MALFORMED),
    "a body with another boundary": (PART + b"x" + END, "multipart/form-data; boundary=c", *MALFORMED),
    "a body that ends in the file": (PART + b"half", FORM, *MALFORMED),
    "a body that ends in a header": (b"--b\r\nContent-Dispo", FORM, *MALFORMED),
    "a part without a name": (b"--b\r\nContent-Type: text/plain\r\n\r\nx" + END, FORM, *MALFORMED),
    "too many parts": (OTHER * 40 + PART + b"x" + END, FORM, *MALFORMED),
    "too many parts after the file": (PART + b"x\r\n" + OTHER * 40 + b"--b--\r\n", FORM, *MALFORMED),
    "too many headers": (b"--b\r\n" + b"A: b\r\n" * 50 + b"\r\nx" + END, FORM, *MALFORMED),
    "a header too long": (b"--b\r\nA: " + b"b" * 20_000 + b"\r\n\r\nx" + END, FORM, *MALFORMED),
    "a filename that is not UTF-8": (PART.replace(b"a.txt", b"\xff\xfe") + b"x" + END, FORM, *MALFORMED),
    "one byte over the limit": (PART + b"x" * (MAX + 1) + END, FORM, 413, "attachment_too_large"),
    "many bytes over the limit": (PART + b"x" * 200_000 + END, FORM, 413, "attachment_too_large"),
    "no boundary in the content type": (PART + b"x" + END, "multipart/form-data", *UNSUPPORTED),
    "an empty boundary": (PART + b"x" + END, 'multipart/form-data; boundary=""', *UNSUPPORTED),
    "JSON": (b"{}", "application/json", *UNSUPPORTED),
    "another multipart": (PART + b"x" + END, "multipart/mixed; boundary=b", *UNSUPPORTED),
    "no content type": (PART + b"x" + END, "", *UNSUPPORTED),
    "an invalid content type": (PART + b"x" + END, ";;;=", *UNSUPPORTED),
    "a boundary too long": (PART + b"x" + END, f"multipart/form-data; boundary={'b' * 5000}", *MALFORMED),
    "a boundary that is not ASCII": (PART + b"x" + END, 'multipart/form-data; boundary="bé"', *MALFORMED),
}


async def send_body(client, case, body, content_type=FORM):
    """Upload a raw body. An iterator is sent in chunks, without a Content-Length."""
    headers = {"Content-Type": content_type} if content_type else {}
    return await client.post(f"/support/cases/{case['id']}/attachments", data=body, headers=headers)


async def chunks(*parts):
    for part in parts:
        yield part


class send_open:  # noqa: N801 - used like a function
    """A connection on which a chunked upload has begun. It is aborted at the end of the block."""

    def __init__(self, client, case) -> None:
        self._client, self._case = client, case

    async def __aenter__(self):
        reader, self._writer = await asyncio.open_connection(self._client.host, self._client.port)
        head = f"POST /support/cases/{self._case['id']}/attachments HTTP/1.1\r\nHost: localhost\r\n"
        self._writer.write(f"{head}Content-Type: {FORM}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        await self._writer.drain()
        return reader, self._writer

    async def __aexit__(self, *_) -> None:
        self._writer.transport.abort()


async def write_chunk(writer, data: bytes) -> None:
    """Write one chunk of a body. Empty data is skipped, because an empty chunk ends the body."""
    if data:
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await writer.drain()
