"""Large JSON bodies are bounded, because each is in memory while it arrives and until its request ends."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from support_service.guard.overload import LARGE_BODY_BYTES, MAX_LARGE_BODIES_PER_CALLER
from tests.support.access.fixtures import write_token
from tests.support.calls import eventually, expect_problem
from tests.support.scrape import Scrape
from tests.support.service import service_of

TOO_MUCH = LARGE_BODY_BYTES + 1024
NEW_CASE = {"subject": "A", "channel": "email"}
LARGE = NEW_CASE | {"ignored": "x" * 900_000}  # more than arrives together with the head


@pytest.fixture
async def client(make_client, tmp_path):
    """A client of a service that requires tokens."""
    file = tmp_path / "tokens.json"
    token = write_token(file, "boss")
    client = await make_client(SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(file))
    client.session.headers["Authorization"] = f"Bearer {token}"
    return client


@asynccontextmanager
async def begun(client, path, framing, start):
    """As many requests as one caller may have, each with the beginning of a body that does not end."""
    head = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{client.port}", framing, "Content-Type: application/json"]
    head += ["Sec-Fetch-Site: same-origin", f"Authorization: {client.session.headers['Authorization']}"]
    writers = []
    try:
        for _ in range(MAX_LARGE_BODIES_PER_CALLER):
            _, writer = await asyncio.open_connection(client.host, client.port)
            writers.append(writer)
            writer.write("\r\n".join([*head, "", ""]).encode() + start)
            await writer.drain()
        yield
    finally:
        for writer in writers:
            writer.close()


async def post_large(client):
    """Send a large body; return the response."""
    return await client.post("/support/cases", json=LARGE)


@pytest.mark.parametrize("path", ["/console/session", "/support/cases"])
@pytest.mark.parametrize(
    ("framing", "start"),
    [
        ("Content-Length: 1048576", b"x" * TOO_MUCH),
        ("Transfer-Encoding: chunked", b"%x\r\n" % TOO_MUCH + b"x" * TOO_MUCH + b"\r\n"),
    ],
)
async def test_large_bodies_of_a_caller_are_bounded(client, path, framing, start):
    """Also the bodies of a sign-in, which needs no token.

    Small bodies are served meanwhile, and large ones afterwards.
    """
    async with begun(client, path, framing, start):
        await eventually(lambda: len(service_of(client).guard.large_bodies) == MAX_LARGE_BODIES_PER_CALLER)
        await expect_problem(await post_large(client), 503, "overloaded")
        assert Scrape(service_of(client).metrics).nonzero("support_request_turned_away_total") == {"requests": 1}
        assert (await client.post("/support/cases", json=NEW_CASE)).status == 201
    await eventually(lambda: len(service_of(client).guard.large_bodies) == 0)
    assert (await post_large(client)).status == 201


async def test_body_that_has_not_arrived_is_not_counted(client):
    """A client that only announces large bodies takes no place of others."""
    async with begun(client, "/support/cases", "Content-Length: 1048576", b"{"):
        assert (await post_large(client)).status == 201
