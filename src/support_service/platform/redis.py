"""What every use of Redis shares: a limit on an answer, the errors of an operation, and the check of a server.

Without a limit, redis-py receives as much as an answer announces, for as long as it takes. That occupies the event
loop, also after the caller has stopped waiting.
"""

import asyncio
from typing import Any
from uuid import uuid4

import redis.asyncio as redis
from redis._parsers import BaseParser, _AsyncRESP2Parser, _AsyncRESP3Parser
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, RedisError

# Errors for an answer of another form: redis-py takes its form for granted.
MALFORMED_ANSWER_ERRORS = (ValueError, TypeError, AttributeError, LookupError)
REDIS_FAILURES = (RedisError, OSError, *MALFORMED_ANSWER_ERRORS)  # what redis-py raises for an operation that failed

# Bytes of one answer, which may have several values: the largest are of a batch of cached timelines, and of 100 events
# of 256 KiB each.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
ELEMENT_COST_BYTES = 2048  # bytes that each element of an answer counts besides its value: it takes time to parse

REDIS_TIMEOUT = 2.0  # seconds for the whole check of the server


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
        return await super()._readline()  # type: ignore[misc,no-any-return]

    def _spend_bytes(self, size: int) -> None:
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise OversizedAnswer(f"an answer of more than {MAX_ANSWER_BYTES} bytes")


class _LimitedRESP2(_AnswerLimit, _AsyncRESP2Parser):
    """The parser of protocol version 2."""


class _LimitedRESP3(_AnswerLimit, _AsyncRESP3Parser):
    """The parser of protocol version 3, which redis-py uses by default."""


def limited_parser_class(url: str) -> type[BaseParser]:
    """Return the parser class for a connection pool of this URL."""
    return _LimitedRESP2 if str(parse_url(url).get("protocol")) == "2" else _LimitedRESP3


async def is_not_redis(url: str) -> bool:
    """Return whether the server at a URL answers, but not as Redis does.

    A server that can't be reached, is late, or answers with an error may be a Redis that works again soon.
    """
    client = redis.Redis.from_url(
        url, parser_class=limited_parser_class(url), socket_connect_timeout=REDIS_TIMEOUT, retry=Retry(NoBackoff(), 0)
    )
    text = uuid4().hex
    try:
        async with asyncio.timeout(REDIS_TIMEOUT):
            return (await client.echo(text)) not in (text, text.encode())
    except InvalidResponse:
        return True
    except (RedisError, OSError):
        return False
    except MALFORMED_ANSWER_ERRORS:
        return True
    finally:
        await client.aclose()
