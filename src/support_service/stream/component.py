"""The stream component: the open streams of this replica, and the feed that follows the published events for them."""

from collections.abc import AsyncIterator

from aiohttp import web

from support_service.cases.component import CASE_SERVICE, MASKER
from support_service.events.component import EVENT_LOG
from support_service.guard.component import READINESS
from support_service.platform.background import run_every, run_in_background
from support_service.platform.settings.process import LimitSettings
from support_service.platform.telemetry.component import INSTRUMENTS
from support_service.stream.service import STREAM_INTERRUPTED, STREAM_OPEN, ChangeStream, StreamTimings
from support_service.stream.slots import StreamLimits

CHANGE_STREAM = web.AppKey("change_stream", ChangeStream)


def setup(app: web.Application, limits: LimitSettings, timings: StreamTimings) -> None:
    """Add the streams. They end at shutdown after all other requests."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        most = StreamLimits(limits.streams, limits.streams_per_principal, limits.streams_per_address)
        stream = app[CHANGE_STREAM] = ChangeStream(
            app[EVENT_LOG],
            app[MASKER].published_case,
            app[CASE_SERVICE].owners_of,
            app[INSTRUMENTS],
            most,
            timings=timings,
        )
        app[INSTRUMENTS].observe(STREAM_OPEN, lambda: [(len(stream), {})])
        app[INSTRUMENTS].observe(STREAM_INTERRUPTED, lambda: [(stream.feed.interrupted_for, {})])
        app[READINESS].end_streams.append(stream.shut_down)
        expire = run_every(timings.presence.expiry_interval, stream.presence.expire, "Ending presence")
        check = run_every(timings.access_interval, stream.check_access, "Checking the callers of streams")
        async with run_in_background(stream.feed.run()), run_in_background(expire), run_in_background(check):
            await stream.feed.attempted.wait()  # else the first clients would be asked to read again
            yield

    app.cleanup_ctx.append(run)
