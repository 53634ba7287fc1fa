"""`support-service` that writes the number of its asyncio tasks to the file TASKS_FILE, twice a second.

Its caches are small and what it keeps is kept for seconds, so that a run of minutes reaches the state of weeks.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from support_service import cli, server, service
from support_service.app import build_app
from support_service.guard.guard import Guard
from support_service.timeline import snapshots

INTERVAL = 0.5  # seconds
FILE = Path(os.environ["TASKS_FILE"])


def build_counted_app(*arguments: Any, **options: Any) -> tuple[web.Application, Guard]:
    """Return an application that counts its tasks while it runs, and its guard."""
    app, guard = build_app(*arguments, **options)

    async def count(_: web.Application) -> AsyncIterator[None]:
        async def write() -> None:
            while True:
                FILE.write_text(str(len(asyncio.all_tasks())))  # noqa: ASYNC240 - a file in memory
                await asyncio.sleep(INTERVAL)

        counting = asyncio.create_task(write())
        yield
        counting.cancel()
        with suppress(asyncio.CancelledError):
            await counting

    app.cleanup_ctx.append(count)
    return app, guard


snapshots.MAX_DECODED_BYTES = 256 * 1024
service.CASE_CACHE_BYTES = 4 * 1024 * 1024
service.KEEP_PUBLISHED = timedelta(seconds=20)
service.STALE_TTL = service.REDIS_TIMEOUT = 5.0
server.build_app = build_counted_app

if __name__ == "__main__":
    cli.main()
