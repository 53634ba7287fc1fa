"""The check of Redis at the start."""

from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from support_service.platform.settings import WrongSetting


def setup(app: web.Application, urls: Mapping[str, str]) -> None:
    """Add the check that each server that is configured as Redis is one, unless it is unavailable.

    `urls` are URLs by variable. The start raises WrongSetting for one that is not.
    """

    async def run(_: web.Application) -> AsyncIterator[None]:
        for variable, url in urls.items():
            from support_service.platform.redis.check import is_other_server

            if await is_other_server(url):
                raise WrongSetting(f"{variable}: the server at this URL does not answer as Redis does")
        yield

    app.cleanup_ctx.append(run)
