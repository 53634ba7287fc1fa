"""Event loop delay during concurrent scrapes, in a separate process, with SERIES time series."""

import asyncio
import gc
import json
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

import uvloop

from support_service import server
from support_service.platform.telemetry.http import RequestMetrics
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.provider import Metrics, build_resource

SCRAPES = 100
ROUNDS = 5
SERIES = 1_000
BUDGET_MS = 10.0
TIMER_INTERVAL = 0.0005  # seconds between ticks of the timer


@dataclass(frozen=True, slots=True)
class LoopDelay:
    """The longest event loop delay of each round in ms: during scrapes, and for comparison without a scrape."""

    series: int
    longest: list[float]
    idle: list[float]

    @property
    def typical(self) -> float:
        """Return the median of the rounds' longest delays."""
        return statistics.median(self.longest)


async def measure_scrape_delay() -> LoopDelay:
    """Run SCRAPES concurrent scrapes, and measure the event loop's delay meanwhile."""
    sys.setswitchinterval(server.THREAD_SWITCH_INTERVAL)
    metrics = Metrics(("prometheus",), build_resource())
    instruments = Instruments(metrics.meter)
    requests = RequestMetrics(instruments)
    number = 0
    while (series := _series(metrics)) < SERIES:
        requests.create_series("GET", f"/benchmark/{number}", 200)
        number += 1
    gc.collect()
    gc.freeze()  # as the service does after its start
    idle, longest = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        longest.append(
            await _longest_delay(asyncio.gather(*(metrics.render_async("", "gzip") for _ in range(SCRAPES))))
        )
        idle.append(await _longest_delay(asyncio.ensure_future(asyncio.sleep(time.perf_counter() - started))))
    metrics.close()
    return LoopDelay(series, longest, idle)


async def _longest_delay(work: "asyncio.Future[Any]") -> float:
    """Return the longest delay in ms of a timer on the event loop until `work` is done."""
    longest, before = 0.0, time.perf_counter()
    while not work.done():
        await asyncio.sleep(TIMER_INTERVAL)
        now = time.perf_counter()
        longest, before = max(longest, now - before - TIMER_INTERVAL), now
    await work
    return round(longest * 1000, 2)


def _series(metrics: Metrics) -> int:
    return sum(not line.startswith(b"#") for line in metrics.render("", "").body.splitlines())


if __name__ == "__main__":
    found = uvloop.run(measure_scrape_delay())
    print(json.dumps({"series": found.series, "longest": found.longest, "typical": found.typical, "idle": found.idle}))
