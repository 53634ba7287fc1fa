"""The check at the start that a server which answers is a Redis."""

import asyncio
from uuid import uuid4

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, RedisError

from support_service.platform.redis.failures import FORM_ERRORS
from support_service.platform.redis.limited_parser import limited_parser

TIMEOUT = 2.0  # seconds for the whole check


async def is_other_server(url: str) -> bool:
    """Return whether the server at a URL answers, but not as Redis does.

    A server that can't be reached, is late, or answers with an error may be a Redis that works again soon.
    """
    client = redis.Redis.from_url(
        url, parser_class=limited_parser(url), socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
    )
    text = uuid4().hex
    try:
        async with asyncio.timeout(TIMEOUT):
            return (await client.echo(text)) not in (text, text.encode())
    except InvalidResponse:
        return True
    except (RedisError, OSError):
        return False
    except FORM_ERRORS:
        return True
    finally:
        await client.aclose()
