"""What every use of Redis shares: its connections, a limit on an answer, and the check of a server.

Without a limit, redis-py receives as much as an answer announces, for as long as it takes. That occupies the event
loop, also after the caller has stopped waiting.
"""

import asyncio
from contextlib import suppress
from copy import copy
from typing import Any
from uuid import uuid4

import redis.asyncio as redis
from redis._parsers import _AsyncRESP2Parser, _AsyncRESP3Parser
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, RedisError, ResponseError

from support_service.core.redis_url import parse_sentinel_url

# Errors for an answer of another form: redis-py takes its form for granted.
MALFORMED_ANSWER_ERRORS = (ValueError, TypeError, AttributeError, LookupError)
REDIS_FAILURES = (RedisError, OSError, *MALFORMED_ANSWER_ERRORS)  # what redis-py raises for an operation that failed

# Bytes of one answer, which may have several values: the largest are of a batch of cached timelines, and of 100 events
# of 256 KiB each.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
ELEMENT_COST_BYTES = 2048  # bytes that each element of an answer counts besides its value: it takes time to parse

REDIS_TIMEOUT = 2.0  # seconds for the whole check of the server
SENTINEL_TIMEOUT = 0.5  # seconds for one Sentinel to answer, before the next one is asked
OBSTACLES = {
    "cluster": "is a node of a Redis Cluster, which splits the keys that one operation needs. Use a Redis without "
    "cluster mode, such as a primary with replicas and Sentinel",
    "sentinel": "is a Sentinel: write redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DATABASE",
}


class OversizedAnswer(InvalidResponse):
    """An answer that exceeds `MAX_ANSWER_BYTES`, or is nested too deep. redis-py closes its connection."""


class _AnswerLimit:
    """Limits what a parser reads for one answer. Its base is a parser of redis-py, which reads by these methods.

    What has arrived is taken from the stream at once: redis-py would wait for each line and each value in turn.
    """

    _buffer: bytes
    _pos: int
    _bytes_left = MAX_ANSWER_BYTES

    def on_connect(self, connection: Any) -> None:
        self._buffer = b""  # of the connection before
        super().on_connect(connection)  # type: ignore[misc]

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        self._bytes_left = MAX_ANSWER_BYTES
        if not self._buffer and self._stream is not None:  # type: ignore[attr-defined]
            self._buffer = await self._stream.read(self._read_size)  # type: ignore[attr-defined]
        try:
            return await super().read_response(*arguments, **options)  # type: ignore[misc]
        except RecursionError as failure:
            raise OversizedAnswer("an answer that is nested too deep") from failure

    def _clear(self) -> None:
        """Forget an answer, and keep what has arrived of the next one."""
        rest = self._buffer[self._pos :]
        super()._clear()  # type: ignore[misc]
        self._buffer, self._pos = rest, 0

    async def _read(self, length: int) -> bytes:
        self._spend_bytes(length)
        return await super()._read(length)  # type: ignore[misc,no-any-return]

    async def _readline(self) -> bytes:
        self._spend_bytes(ELEMENT_COST_BYTES)
        # redis-py takes a line for cut off if what has arrived ends within the line's end.
        if self._buffer.endswith(b"\r") and self._pos < len(self._buffer):
            self._buffer += await self._stream.read(1)  # type: ignore[attr-defined]
        return await super()._readline()  # type: ignore[misc,no-any-return]

    def _spend_bytes(self, size: int) -> None:
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise OversizedAnswer(f"an answer of more than {MAX_ANSWER_BYTES} bytes")


class _LimitedRESP2(_AnswerLimit, _AsyncRESP2Parser):
    """The parser of protocol version 2."""


class _LimitedRESP3(_AnswerLimit, _AsyncRESP3Parser):
    """The parser of protocol version 3, which redis-py uses by default."""


class _Sentinels(Sentinel):
    """Sentinels of which none is lost.

    redis-py moves the Sentinel that answered to the front, in a list that searches share. Two searches at once can put
    one Sentinel in the place of another.
    """

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        search = copy(self)
        search.sentinels = list(self.sentinels)
        found: tuple[str, int] = await Sentinel.discover_master(search, service_name)
        self.sentinels = search.sentinels
        return found


class _SentinelPool(SentinelConnectionPool):
    """A pool of connections to the primary that Sentinels name; it closes the connections to the Sentinels, too."""

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002 - as redis-py has it
        await super().disconnect(inuse_connections)
        if inuse_connections:  # otherwise a new primary was found
            await self.sentinel_manager.aclose()


class _BlockingSentinelPool(_SentinelPool, redis.BlockingConnectionPool):
    """Such a pool in which an operation waits for a free connection."""


def create_pool(url: str, *, blocking: bool = False, **options: Any) -> redis.ConnectionPool:
    """Return a pool of connections to a URL, which may name Sentinels. Connections are opened on first use.

    A pool that is `blocking` lets an operation wait for a free connection for its option `timeout`.
    """
    found = parse_sentinel_url(url)
    options |= parse_url(found.primary if found else url)
    options["parser_class"] = _LimitedRESP2 if str(options.get("protocol")) == "2" else _LimitedRESP3
    if found is None:
        return (redis.BlockingConnectionPool if blocking else redis.ConnectionPool)(**options)
    options.pop("host")
    is_encrypted = options.pop("connection_class", None) is not None
    of_sentinels = {name: value for name, value in options.items() if name.startswith("ssl_")}
    of_sentinels |= {"ssl": is_encrypted, "username": found.user, "password": found.password}
    of_sentinels |= dict.fromkeys(("socket_timeout", "socket_connect_timeout"), SENTINEL_TIMEOUT)
    sentinels = _Sentinels(  # type: ignore[no-untyped-call]
        found.sentinels, sentinel_kwargs=of_sentinels | {"retry": Retry(NoBackoff(), 0)}
    )
    pool: Any = _BlockingSentinelPool if blocking else _SentinelPool
    created: redis.ConnectionPool = pool(found.service, sentinels, ssl=is_encrypted, **options)
    return created


async def find_obstacle(url: str) -> str | None:
    """Return why the server at a URL can't be used, as the end of a sentence; None if it can.

    Raises ConnectionError for a server that can't be reached, is late, or answers with an error: it may be a Redis that
    works soon.
    """
    pool = create_pool(url, socket_connect_timeout=REDIS_TIMEOUT, retry=Retry(NoBackoff(), 0))
    client: Any = redis.Redis.from_pool(pool)
    text = uuid4().hex
    try:
        async with asyncio.timeout(REDIS_TIMEOUT):
            with suppress(ResponseError):  # of a Redis before 6, which has no such command
                mode = _mode_of(await client.execute_command("HELLO"))
                if mode in OBSTACLES:
                    return OBSTACLES[mode]
            is_redis = (await client.echo(text)) in (text, text.encode())
    except InvalidResponse:
        is_redis = False
    except (RedisError, OSError) as failure:
        raise ConnectionError from failure
    except MALFORMED_ANSWER_ERRORS:
        is_redis = False
    finally:
        await client.aclose()
    return None if is_redis else "does not answer as Redis does"


def _mode_of(hello: Any) -> str:
    """Return the mode that a server states in its answer to HELLO, a list in version 2 of the protocol."""
    if isinstance(hello, list):
        hello = dict(zip(hello[::2], hello[1::2], strict=False))
    return str(hello.get(b"mode", b"").decode()) if isinstance(hello, dict) else ""
