"""The HTTP session for all upstream services."""

import aiohttp

from support_service.platform.http_client import LimitedConnector


async def prevent_retry(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Raise a lost connection as an error after which aiohttp does not retry: client.py does, within its budget."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as failure:
        raise aiohttp.ClientConnectionError(str(failure)) from failure


def create_session(trace_configs: list[aiohttp.TraceConfig]) -> aiohttp.ClientSession:
    """Return the HTTP session for all sources; each source limits its own calls and their time."""
    return aiohttp.ClientSession(
        connector=LimitedConnector(),
        timeout=aiohttp.ClientTimeout(),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # requests ask for uncompressed answers
        trace_configs=trace_configs,
        middlewares=(prevent_retry,),
    )
