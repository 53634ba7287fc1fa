"""SupportUploadsRefused and SupportDownloadsRefused: files are refused by the disk or S3."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from grafana.panel import Panel, Query, hourly_rate

from observability.drill import Cause, Deployment, DrillFault, DrillScenario, changed_attributes
from observability.faults import REPAIRED_MINUTE, CounterValues, Fault
from observability.signal import CAUSE_FOR, PROBE_RECENT, WINDOW, Alert, Signal, highest_label_template, value_template

REFUSED_SHARE = 0.05  # share of uploads, or of downloads; a healthy store refuses none, one of ten replicas a tenth
FILES_REFUSED = 5  # such files per window; one lost connection to S3 is not an outage
TRANSFERS = "support_attachment_transfers_total"


def refused(transfer: str) -> str:
    """Return the selector of the transfers that the disk or S3 refused."""
    return f'{TRANSFERS}{{transfer="{transfer}",outcome!="ok"}}'


def _condition(transfer: str) -> str:
    """Return the share of the transfers that are refused with each outcome, where it is too high."""
    grown = f"increase({refused(transfer)}[{WINDOW}])"
    everything = f'sum(increase({TRANSFERS}{{transfer="{transfer}"}}[{WINDOW}]))'
    share = f"sum by (outcome) ({grown}) / on () group_left () {everything}"
    return f"{share} > {REFUSED_SHARE} and on () sum({grown}) >= {FILES_REFUSED}"


BY_REPLICA = f"sum by (instance) (increase({refused('upload')}[{WINDOW}]))"
REFUSING_REPLICAS, TOP_REPLICA = f"count({BY_REPLICA} > 0)", highest_label_template("instance", BY_REPLICA)
REPLICAS = f"count(count by (instance) (increase({TRANSFERS}[{WINDOW}])))"
STATED = (f"{REFUSED_SHARE * 100:g} %", f"{FILES_REFUSED} ", WINDOW, CAUSE_FOR)

S3_STORE = DrillScenario(settings={"SUPPORT_ATTACHMENT_STORE": "s3"})


def _transfers(transfer: str, outcome: str) -> str:
    return f'{TRANSFERS}{{transfer="{transfer}",outcome="{outcome}"}}'


@asynccontextmanager
async def _one_lacks_its_volume(deployment: Deployment) -> AsyncIterator[None]:
    """Files of one replica can't be written. The alert counts failures, so many come."""
    deployment.volume.unlink()
    deployment.volume.write_text("no folder")
    async with changed_attributes(deployment.traffic, uploads=10.0):
        yield
    deployment.volume.unlink()
    deployment.volume.symlink_to(deployment.files)


@asynccontextmanager
async def _s3_refuses_credentials(deployment: Deployment) -> AsyncIterator[None]:
    """The credentials of the service have expired."""
    expired = "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
    answer = lambda _: web.Response(status=400, text=expired, content_type="application/xml")  # noqa: E731
    async with changed_attributes(deployment.s3_proxy, answer=answer):
        yield


@asynccontextmanager
async def _uploads_fail(deployment: Deployment) -> AsyncIterator[None]:
    away = deployment.files.with_name("attachments-away")
    deployment.files.rename(away)
    deployment.files.write_text("no folder")
    yield
    deployment.files.unlink()
    away.rename(deployment.files)


SIGNAL = Signal(
    group="attachments",
    alerts=(
        Alert(
            name="SupportUploadsRefused",
            short=("files are refused by the disk or S3", "đĩa hoặc S3 từ chối file"),
            expr=_condition("upload"),
            for_=CAUSE_FOR,
            severity="critical",
            summary="{{ $value | humanizePercentage }} of uploads fail ({{ $labels.outcome }}): their store refuses "
            f"files of {value_template(REFUSING_REPLICAS)} of {value_template(REPLICAS)} replicas, mostly of "
            f"{TOP_REPLICA}",
            description=f"The disk or S3 refused {{{{ $value | humanizePercentage }}}} of the uploads of {WINDOW} "
            f"(limit {REFUSED_SHARE:.0%} and {FILES_REFUSED} uploads). They were answered with 503 or 507. "
            "Stored files are not lost.",
            keep_firing_for=PROBE_RECENT,  # the probe's upload fails too, and it flaps for this long afterwards
            stated=STATED,
        ),
        Alert(
            name="SupportDownloadsRefused",
            short=("stored files can't be read", "không đọc được file đã lưu"),
            expr=_condition("download"),
            for_=CAUSE_FOR,
            severity="critical",
            summary="{{ $value | humanizePercentage }} of downloads fail ({{ $labels.outcome }}): their store refuses "
            "to give the files",
            description=f"{{{{ $value | humanizePercentage }}}} of the downloads of {WINDOW} failed because the disk "
            f"or S3 did not give the file (limit {REFUSED_SHARE:.0%} and {FILES_REFUSED} downloads). They were "
            "answered with 503. Files that are missing or damaged do not count.",
            panel="Support transfers",
            keep_firing_for=PROBE_RECENT,  # the probe downloads a file, too
            stated=STATED,
        ),
    ),
    panels=(
        Panel(
            "Support uploads refused",
            "Refused and aborted uploads per hour, by reason. storage_full: the disk is at its reserve.",
            row="attachments",
            place=80,
            queries=(Query(hourly_rate("support_attachment_rejected_total", "reason") + " > 0", "{{reason}}"),),
            unit="suffix: /h",
            alerts=("SupportUploadsRefused", "SupportAttachmentDiskFull"),
        ),
        Panel(
            "Support transfers",
            "Uploads and downloads per hour by what the disk or S3 answered. Normal: only ok.",
            row="attachments",
            place=82,
            queries=(Query(hourly_rate(TRANSFERS, "transfer, outcome") + " > 0", "{{transfer}}: {{outcome}}"),),
            unit="suffix: /h",
            alerts=("SupportDownloadsRefused", "SupportUploadsRefused"),
        ),
    ),
    faults={
        "S3 refuses uploads": Fault(
            ("SupportUploadsRefused",),
            {_transfers("upload", "slow_down"): CounterValues(0, 8), _transfers("upload", "ok"): CounterValues(10, 2)},
            resolved_after=REPAIRED_MINUTE + 8,
        ),
        "S3 does not give one of ten files": Fault(
            ("SupportDownloadsRefused",),
            {
                _transfers("upload", "ok"): CounterValues(10, 10),
                _transfers("download", "denied"): CounterValues(0, 3),
                _transfers("download", "ok"): CounterValues(30, 27),
            },
            resolved_after=REPAIRED_MINUTE + 8,
        ),
        "one of ten replicas lacks its volume": Fault(
            ("SupportUploadsRefused",),
            {_transfers("upload", "disk"): CounterValues(0, 3), _transfers("upload", "ok"): CounterValues(30, 27)},
            resolved_after=REPAIRED_MINUTE + 8,
        ),
        "the disk refuses a single file now and then": Fault(
            (), {_transfers("upload", "disk"): CounterValues(0, 0.5), _transfers("upload", "ok"): CounterValues(10, 2)}
        ),
    },
    drills=(
        DrillFault(
            "a replica without its volume",
            ("SupportUploadsRefused",),
            _one_lacks_its_volume,
            (Cause(1, '"REPLICA".*"disk"'),),
            scenario=DrillScenario(manipulated=True),
            resolved_within=8,  # the alert is kept for longer than others
            only_repair="the volume has to be mounted",
        ),
        DrillFault(
            "S3 credentials expired",
            ("SupportUploadsRefused",),
            _s3_refuses_credentials,
            (Cause(2, "ExpiredToken"),),
            scenario=S3_STORE,
            resolved_within=8,  # the alert is kept for longer than others
            only_repair="the credentials have to be renewed",
        ),
        DrillFault(
            "a folder that refuses files",
            ("SupportUploadsRefused",),
            _uploads_fail,
            (Cause(2, "attachment folder can't be used"),),
            resolved_within=8,  # the alert is kept for longer than others
            only_repair="the folder has to come back",
        ),
    ),
)
