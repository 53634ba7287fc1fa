"""SupportAttachmentOffloadFailing: files cannot be moved to S3."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from grafana.panel import Panel, Query, highest_over_replicas, hourly_rate

from observability.drill import Cause, Deployment, DrillFault, DrillScenario, Exercise, changed_attributes
from observability.faults import CounterValues, Fault
from observability.signal import CAUSE_FOR, WINDOW, Alert, Signal

OFFLOAD_WINDOW = "30m"  # failures count across the pause between two runs
OFFLOAD_FAILURES = 3  # files in that window, while none was moved in the last minutes
OFFLOADED = "support_attachment_offloaded_total"


def _moved(outcome: str) -> str:
    return f'support_attachment_offloaded_total{{to="s3",outcome="{outcome}"}}'


OFFLOADING = DrillScenario(settings={"SUPPORT_OFFLOAD_AFTER": "1s", "SUPPORT_OFFLOAD_GRACE": "1s"})


@asynccontextmanager
async def _s3_is_down(deployment: Deployment) -> AsyncIterator[None]:
    def disconnect(request: web.Request) -> web.Response:
        if request.transport:
            request.transport.abort()
        return web.Response()

    async with changed_attributes(deployment.s3_proxy, answer=disconnect):
        yield


SIGNAL = Signal(
    group="attachments",
    alerts=(
        Alert(
            name="SupportAttachmentOffloadFailing",
            short=("files cannot be moved to S3", "không chuyển được file sang S3"),
            expr=f'sum(increase({OFFLOADED}{{outcome=~"failed|unreadable"}}[{OFFLOAD_WINDOW}])) >= {OFFLOAD_FAILURES}'
            f' unless sum(increase({OFFLOADED}{{outcome="moved"}}[{WINDOW}])) > 0',
            for_=CAUSE_FOR,
            severity="warning",
            summary="The disk of attachments fills up: {{ $value | humanize }} files could not be moved to S3",
            description=f"{{{{ $value | humanize }}}} files could not be moved in the last {OFFLOAD_WINDOW} (limit "
            f"{OFFLOAD_FAILURES}), and none was moved in the last {WINDOW}. They stay on local storage, which fills "
            "up.",
            stated=(f"{OFFLOAD_FAILURES} file", OFFLOAD_WINDOW, WINDOW),
        ),
    ),
    panels=(
        Panel(
            "Support attachment offload",
            "Attempts per hour to move a file between storages, by outcome. Only moved moves the file. Normal: only "
            "moved.",
            row="attachments",
            place=30,
            queries=(
                Query(hourly_rate("support_attachment_offloaded_total", "to, outcome"), "to {{to}}: {{outcome}}"),
            ),
            unit="suffix: /h",
        ),
        Panel(
            "Support attachment backlog age",
            "Age of the oldest file on local storage. With SUPPORT_OFFLOAD_AFTER it stays a little above that age.",
            row="attachments",
            place=20,
            queries=(Query(highest_over_replicas("support_attachment_backlog_age_seconds"), "oldest"),),
            unit="s",
        ),
    ),
    faults={
        "S3 is down": Fault(
            ("SupportAttachmentOffloadFailing",),
            {_moved("moved"): CounterValues(5, 0), _moved("failed"): CounterValues(0, 0.2)},
        )
    },
    drills=(
        DrillFault(
            "S3 down",
            ("SupportAttachmentOffloadFailing",),
            _s3_is_down,
            (Cause(1, r'"failed"} [1-9]'),),
            scenario=OFFLOADING,
            only_repair="S3 has to answer, and files are complete on the local disk",
        ),
    ),
    exercises=(
        Exercise(
            ("set wrong S3 credentials and restart the service", "đặt sai credentials S3 rồi khởi động lại service"),
            ("set the correct ones and restart", "đặt đúng rồi khởi động lại"),
        ),
    ),
)
