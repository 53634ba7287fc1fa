"""Servers that answer otherwise than Redis: found at the start, and without effect on the event loop afterwards."""

import asyncio
import re
from contextlib import asynccontextmanager, suppress

import pytest
import redis.asyncio as redis
from aiohttp import web
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from support_service.app import build_app
from support_service.core.errors import UserError
from support_service.events.broker.base import BrokerError, RedisBrokerTimings
from support_service.events.broker.redis import RedisBroker
from support_service.guard.rates import Rate, RateLimiter, RateSyncTimings
from support_service.guard.shared_rates import SharedRateLimits
from support_service.platform.redis import ELEMENT_COST_BYTES, MAX_ANSWER_BYTES, create_pool
from support_service.platform.settings import Settings
from support_service.timeline.cache import CacheUnavailable, RedisCacheTimings
from support_service.timeline.redis_cache import RedisCache
from tests.support.calls import GENEROUS_TIMEOUT, eventually

HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"
HUGE = [
    pytest.param(b"$536870912\r\n", b"x" * 65_536, id="one value"),
    pytest.param(b"*1000000000\r\n", b"$-1\r\n" * 1000, id="many values"),
    pytest.param(b"*1\r\n" * 10_000, b"*1\r\n" * 1000, id="nested values"),
]


class OtherServer:
    """Answers the commands of a new connection as Redis does, and others with `begin` and then `rest` without end."""

    def __init__(self, begin, rest=b""):
        self.begin, self.rest = begin, rest
        self.sent = 0
        self.url = ""

    async def serve(self, reader, writer):
        with suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65_536):
                for name in re.findall(rb"\*\d+\r\n\$\d+\r\n(\w+)", data):
                    if name in (b"HELLO", b"CLIENT"):
                        writer.write(HELLO if name == b"HELLO" else b"+OK\r\n")
                        continue
                    writer.write(self.begin)
                    while self.rest:
                        writer.write(self.rest)
                        await writer.drain()
                        self.sent += len(self.rest)
        writer.close()


@asynccontextmanager
async def serving(server):
    """Run a server for the length of a block."""
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = "redis://127.0.0.1:{1}".format(*listener.sockets[0].getsockname())
    try:
        async with asyncio.timeout(GENEROUS_TIMEOUT):
            yield server
    finally:
        listener.close()


class AlwaysOk(OtherServer):
    """Answers every command with OK."""

    async def serve(self, reader, writer):
        with suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65_536):
                writer.write(b"+OK\r\n" * len(re.findall(rb"\*\d+\r\n\$\d+\r\n\w+", data)))
        writer.close()


class RepairedServer(OtherServer):
    """Answers with a number that is none on its first three connections, and a ping as Redis does on later ones."""

    connections = 0

    async def serve(self, reader, writer):
        self.connections += 1
        self.begin = b":abc\r\n" if self.connections <= 3 else b"+PONG\r\n"
        await super().serve(reader, writer)


class ServerOfParts(OtherServer):
    """Sends `begin` in two parts, cut at `place`. The client reads the first before the second is sent."""

    place = 0

    async def serve(self, reader, writer):
        with suppress(OSError, asyncio.CancelledError):
            while await reader.read(65_536):
                writer.write(self.begin[: self.place])
                for _ in range(5):
                    await asyncio.sleep(0)
                writer.write(self.begin[self.place :])
        writer.close()


@pytest.mark.parametrize("variable", ["SUPPORT_REDIS_URL", "SUPPORT_EVENTS_REDIS_URL"])
@pytest.mark.parametrize(
    "server", [AlwaysOk(b""), OtherServer(b"HTTP/1.1 400 Bad Request\r\n\r\n"), OtherServer(b":1\r\n")]
)
async def test_start_with_another_server_is_refused_with_one_line(environment, variable, server):
    """The line names the variable."""
    async with serving(server):
        app, _ = build_app(Settings.load(environment | {variable: server.url}))
        runner = web.AppRunner(app)
        with pytest.raises(UserError) as refused:
            await runner.setup()
        await runner.cleanup()
    assert str(refused.value) == f"{variable}: the server at this URL does not answer as Redis does"


@pytest.mark.parametrize(("begin", "rest"), HUGE)
async def test_huge_answer_is_not_received_by_the_cache(begin, rest):
    async with serving(OtherServer(begin, rest)) as server:
        cache = RedisCache(server.url, GENEROUS_TIMEOUT)
        with pytest.raises(CacheUnavailable):
            await cache.get("key")
        await cache.close()
    assert server.sent <= MAX_ANSWER_BYTES * len(rest) / ELEMENT_COST_BYTES


@pytest.mark.parametrize(("begin", "rest"), HUGE)
async def test_huge_answer_is_not_received_by_the_broker(begin, rest):
    async with serving(OtherServer(begin, rest)) as server:
        broker = RedisBroker(server.url, timings=RedisBrokerTimings(timeout=GENEROUS_TIMEOUT))
        for operation in (broker.publish("s", ["{}"], max_length=1), broker.receive("s", "c", count=1, wait=1)):
            with pytest.raises(BrokerError):
                await operation
        await broker.close()


@pytest.mark.parametrize(("begin", "rest"), HUGE)
async def test_huge_answer_is_not_received_for_shared_limits(begin, rest):
    failures = []
    async with serving(OtherServer(begin, rest)) as server:
        limiter = RateLimiter("r", Rate(1, 60))
        shared = SharedRateLimits(
            server.url,
            [limiter],
            lambda _, __, error="": failures.append(error),
            RateSyncTimings(redis_timeout=GENEROUS_TIMEOUT),
        )
        limiter.consume("a")
        await shared.synchronize()
        await shared.close()
    assert failures == ["other"]


async def test_answers_that_arrive_together_are_read_in_turn():
    """The rest of what has arrived is kept for the next answer; a new connection begins without it."""
    async with serving(OtherServer(b"$1\r\na\r\n")) as server:
        client = redis.Redis.from_pool(create_pool(server.url))
        for _ in range(2):
            assert await client.pipeline(transaction=False).get("x").get("y").get("z").execute() == [b"a"] * 3
            await client.connection_pool.disconnect()
        await client.aclose()


async def test_answer_that_arrives_in_parts_is_read_whole():
    """Wherever it is cut: also within the end of a line."""
    answer = b"*3\r\n$2\r\nab\r\n:7\r\n+OK\r\n"
    server = ServerOfParts(answer)
    async with serving(server):
        client = redis.Redis.from_pool(create_pool(server.url, retry=Retry(NoBackoff(), 0)))
        for server.place in range(1, len(answer)):
            assert await client.execute_command("X") == [b"ab", 7, b"OK"], server.place
        await client.aclose()


async def is_available(cache):
    with suppress(CacheUnavailable):
        await cache.ping()
        return True
    return False


async def test_cache_recovers_from_answers_of_another_form():
    """redis-py raises errors of Python's for them, which must not end the wait for the repair."""
    async with serving(RepairedServer(b"")) as server:
        cache = RedisCache(server.url, GENEROUS_TIMEOUT, timings=RedisCacheTimings(reconnect_interval=0.01))
        with pytest.raises(CacheUnavailable):
            await cache.ping()
        await eventually(lambda: is_available(cache))
        await cache.close()


async def test_answer_of_another_form_is_a_failure_of_the_broker():
    """redis-py raises errors of Python's for it, which must not end the loops that poll."""
    async with serving(AlwaysOk(b"")) as server:
        broker = RedisBroker(server.url, timings=RedisBrokerTimings(timeout=GENEROUS_TIMEOUT))
        for operation in (
            broker.receive("s", "c", count=1, wait=1),
            broker.claim("s", "c", count=1, min_idle=0, isolate_after=1),
            broker.dead_letters("s", 1),
            broker.last_dead_letter("s"),
            broker.entries("s", 1),
            broker.backlog("s"),
            broker.trim("s", 0),
        ):
            with pytest.raises(BrokerError):
                await operation
        await broker.close()
