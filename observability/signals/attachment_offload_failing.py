"""SupportAttachmentOffloadFailing: files cannot be moved to S3."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from grafana.panel import Panel, Query, highest_over_replicas, hourly_rate

from observability.drill import Cause, Deployment, DrillFault, DrillScenario, Exercise, changed_attributes
from observability.faults import REPAIRED_MINUTE, CounterValues, Fault
from observability.signal import CAUSE_FOR, WINDOW, Alert, Signal

OFFLOAD_WINDOW = "30m"  # failures count across the pause between two runs
OFFLOAD_FAILURES = 3  # files in that window, while none was moved in the last minutes
OFFLOAD_FAILED_SHARE = 0.2  # share of the files of the last minutes; lost connections now and then fail a sixth
OFFLOAD_KEPT = "5m"  # after its end, as long as SupportS3Failing looks back
OFFLOADED = "support_attachment_offloaded_total"
NOT_MOVED, MOVED = f'{OFFLOADED}{{outcome=~"failed|unreadable"}}', f'{OFFLOADED}{{outcome="moved"}}'
TRIED = f'{OFFLOADED}{{outcome=~"failed|unreadable|moved"}}'


def _moved(outcome: str) -> str:
    return f'support_attachment_offloaded_total{{to="s3",outcome="{outcome}"}}'


OFFLOADING = DrillScenario(settings={"SUPPORT_OFFLOAD_AFTER": "1s"})


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
            # Files that were moved resolve the alert, unless others failed beside them.
            expr=f"sum(increase({NOT_MOVED}[{OFFLOAD_WINDOW}])) >= {OFFLOAD_FAILURES}"
            f" unless (sum(increase({MOVED}[{WINDOW}])) > 0 unless sum(increase({NOT_MOVED}[{WINDOW}]))"
            f" / sum(increase({TRIED}[{WINDOW}])) > {OFFLOAD_FAILED_SHARE})",
            for_=CAUSE_FOR,
            severity="warning",
            keep_firing_for=OFFLOAD_KEPT,
            summary="The disk of attachments fills up: {{ $value | humanize }} files could not be moved to S3",
            description=f"{{{{ $value | humanize }}}} files could not be moved in the last {OFFLOAD_WINDOW} (limit "
            f"{OFFLOAD_FAILURES}). In the last {WINDOW} none was moved, or over {OFFLOAD_FAILED_SHARE:.0%} failed. "
            "They stay on local storage, which fills up.",
            stated=(f"{OFFLOAD_FAILURES} file", OFFLOAD_WINDOW, WINDOW, f"{OFFLOAD_FAILED_SHARE * 100:g} %"),
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
            resolved_after=REPAIRED_MINUTE + 8,
        ),
        "S3 refuses three files of ten": Fault(
            ("SupportAttachmentOffloadFailing",),
            {_moved("moved"): CounterValues(5, 3.5), _moved("failed"): CounterValues(0, 1.5)},
            resolved_after=REPAIRED_MINUTE + 8,
        ),
        "S3 refuses one of a hundred files": Fault(
            (), {_moved("moved"): CounterValues(50, 50), _moved("failed"): CounterValues(0, 0.5)}
        ),
    },
    drills=(
        DrillFault(
            "S3 down",
            ("SupportAttachmentOffloadFailing",),
            _s3_is_down,
            (Cause(1, r'"failed"} [1-9]'),),
            scenario=OFFLOADING,
            resolved_within=11,  # the alert is kept for five evaluations longer than others
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
