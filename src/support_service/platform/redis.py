"""What every use of Redis shares: a limit on an answer, the errors of an operation, and the check of a server.

Without a limit, redis-py receives as much as an answer announces, for as long as it takes. That occupies the event
loop, also after the caller has stopped waiting.
"""

import asyncio
from typing import Any
from uuid import uuid4

import redis.asyncio as redis
from redis._parsers import _AsyncHiredisParser
from redis._parsers.socket import SERVER_CLOSED_CONNECTION_ERROR
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, InvalidResponse, RedisError  # noqa: A004 - redis-py's name

# Errors for an answer of another form: redis-py takes its form for granted.
MALFORMED_ANSWER_ERRORS = (ValueError, TypeError, AttributeError, LookupError)
REDIS_FAILURES = (RedisError, OSError, *MALFORMED_ANSWER_ERRORS)  # what redis-py raises for an operation that failed

# Bytes of one answer, which may have several values: the largest are of a batch of cached timelines, and of 100 events
# of 256 KiB each.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
LINE_COST_BYTES = 1024  # bytes that each end of a line counts besides: an element has one or two, and takes memory

REDIS_TIMEOUT = 2.0  # seconds for the whole check of the server


class OversizedAnswer(InvalidResponse):
    """An answer that exceeds `MAX_ANSWER_BYTES`, or is nested too deep. redis-py closes its connection."""


class LimitedParser(_AsyncHiredisParser):
    """The parser of hiredis, with a limit on what it receives for one answer.

    redis-py's own parsers wait for each value of an answer in turn.
    """

    _bytes_left = MAX_ANSWER_BYTES

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        self._bytes_left = MAX_ANSWER_BYTES
        return await super().read_response(*arguments, **options)

    async def read_from_socket(self) -> bool:
        received = await self._stream.read(self._read_size)  # type: ignore[union-attr]  # there is one while it is connected
        if not received:
            raise ConnectionError(SERVER_CLOSED_CONNECTION_ERROR)
        self._bytes_left -= len(received) + LINE_COST_BYTES * received.count(b"\r\n")
        if self._bytes_left < 0:
            raise OversizedAnswer(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        self._reader.feed(received)  # type: ignore[attr-defined]  # likewise
        return True


async def is_not_redis(url: str) -> bool:
    """Return whether the server at a URL answers, but not as Redis does.

    A server that can't be reached, is late, or answers with an error may be a Redis that works again soon.
    """
    client = redis.Redis.from_url(
        url, parser_class=LimitedParser, socket_connect_timeout=REDIS_TIMEOUT, retry=Retry(NoBackoff(), 0)
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
