"""SupportS3Failing: calls of S3 fail, and repeats hide it from clients."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from aiohttp import web
from grafana.panel import Panel, Query, rate

from observability.drill import Cause, Deployment, DrillFault, changed_attributes
from observability.faults import REPAIRED_MINUTE, CounterValues, Fault
from observability.signal import SLOW_FOR, Alert, Signal
from observability.signals.uploads_refused import S3_STORE

FAILED_SHARE = 0.1  # share of calls: with six tries at each, one of a million files is refused
FAILED_CALLS = 5  # in the window
CALLS_WINDOW = "5m"  # longer than that of refused files: where few files come, there are few calls
CALLS = "support_s3_calls_total"
FAILED = f'increase({CALLS}{{outcome!~"ok|not_found"}}[{CALLS_WINDOW}])'
SHARE = f"sum by (outcome) ({FAILED}) / on () group_left () sum(increase({CALLS}[{CALLS_WINDOW}]))"
REFUSED_CALLS = 0.3  # share, of the drill


def _calls(outcome: str) -> str:
    return f'{CALLS}{{operation="put",outcome="{outcome}"}}'


@asynccontextmanager
async def _s3_slows_down(deployment: Deployment) -> AsyncIterator[None]:
    """S3 refuses calls because there are too many."""
    chance, slow_down = Random(0), "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"

    def answer(_: web.Request) -> web.Response | None:
        if chance.random() >= REFUSED_CALLS:
            return None
        return web.Response(status=503, text=slow_down, content_type="application/xml")

    async with changed_attributes(deployment.s3_proxy, answer=answer):
        yield


SIGNAL = Signal(
    group="attachments",
    alerts=(
        Alert(
            name="SupportS3Failing",
            short=("calls of S3 fail", "lời gọi S3 bị lỗi"),
            expr=f"{SHARE} > {FAILED_SHARE} and on () sum({FAILED}) >= {FAILED_CALLS}",
            for_=SLOW_FOR,  # by then the alerts on files that are refused or not moved fire, which mute it
            severity="warning",
            summary="S3 answers {{ $labels.outcome }} to {{ $value | humanizePercentage }} of the calls",
            description=f"{{{{ $value | humanizePercentage }}}} of the calls of S3 in {CALLS_WINDOW} failed (limit "
            f"{FAILED_SHARE:.0%} and {FAILED_CALLS} calls). The service repeats calls that may succeed. Uploads and "
            "downloads take longer, and a few fail.",
            stated=(f"{FAILED_SHARE * 100:g} %", f"{FAILED_CALLS} ", CALLS_WINDOW, SLOW_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support S3 calls",
            "Calls of S3 by its answer, and repeats. Normal: ok, and not_found where files were deleted. No data "
            "without SUPPORT_S3_BUCKET.",
            row="attachments",
            place=84,
            queries=(
                Query(rate(CALLS, "outcome") + " > 0", "{{outcome}}"),
                Query(rate("support_s3_repeats_total", "operation") + " > 0", "repeats of {{operation}}"),
            ),
            unit="cps",
        ),
    ),
    faults={
        "S3 slows down one call of five": Fault(
            ("SupportS3Failing",),
            {_calls("ok"): CounterValues(8, 8), _calls("slow_down"): CounterValues(0, 2)},
            resolved_after=REPAIRED_MINUTE + 7,
        ),
        "S3 refuses single calls": Fault(
            (), {_calls("ok"): CounterValues(40, 38), _calls("server_error"): CounterValues(0, 2)}
        ),
        "cases name files that were deleted": Fault(
            (), {_calls("ok"): CounterValues(20, 20), _calls("not_found"): CounterValues(0, 20)}
        ),
    },
    drills=(
        DrillFault(
            "S3 slows down",
            ("SupportS3Failing",),
            _s3_slows_down,
            (Cause(1, "slow_down"),),
            scenario=S3_STORE,
            only_repair="the load on S3 has to end",
        ),
    ),
)
