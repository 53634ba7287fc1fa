"""SupportUploadsRefused: files are refused by the disk or S3."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from grafana.panel import Panel, Query, hourly_rate

from observability.drill import Cause, Deployment, DrillFault, DrillScenario, changed_attributes
from observability.faults import REPAIRED_MINUTE, CounterValues, Fault
from observability.signal import CAUSE_FOR, PROBE_RECENT, WINDOW, Alert, Signal, highest_label_template, value_template

UPLOADS_REFUSED_SHARE = 0.05  # share of uploads; a healthy store refuses none, and one of ten replicas a tenth
UPLOADS_REFUSED = 5  # such uploads per window; one lost connection to S3 is not an outage
REJECTED = 'support_attachment_rejected_total{reason=~"storage_full|storage_unavailable"}'
REFUSED = f"sum(increase({REJECTED}[{WINDOW}]))"
STORED = f"sum(increase(support_attachment_stored_total[{WINDOW}]))"


BY_REPLICA = f"sum by (instance) (increase({REJECTED}[{WINDOW}]))"
REFUSING_REPLICAS, TOP_REPLICA = f"count({BY_REPLICA} > 0)", highest_label_template("instance", BY_REPLICA)
REPLICAS = f"count(count by (instance) (increase(support_attachment_stored_total[{WINDOW}])))"

S3_STORE = DrillScenario(settings={"SUPPORT_ATTACHMENT_STORE": "s3"})


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
            expr=f"{REFUSED} / ({REFUSED} + {STORED}) > {UPLOADS_REFUSED_SHARE} and {REFUSED} >= {UPLOADS_REFUSED}",
            for_=CAUSE_FOR,
            severity="critical",
            summary="{{ $value | humanizePercentage }} of uploads fail: their store refuses files of "
            f"{value_template(REFUSING_REPLICAS)} of {value_template(REPLICAS)} replicas, mostly of {TOP_REPLICA}",
            description=f"The disk or S3 refused {{{{ $value | humanizePercentage }}}} of the uploads of {WINDOW} "
            f"(limit {UPLOADS_REFUSED_SHARE:.0%} and {UPLOADS_REFUSED} uploads). They were answered with 503 or 507. "
            "Stored files are not lost.",
            keep_firing_for=PROBE_RECENT,  # the probe's upload fails too, and it flaps for this long afterwards
            stated=(f"{UPLOADS_REFUSED_SHARE * 100:g} %", f"{UPLOADS_REFUSED} ", WINDOW, CAUSE_FOR),
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
    ),
    faults={
        "S3 refuses uploads": Fault(
            ("SupportUploadsRefused",),
            {
                'support_attachment_rejected_total{reason="storage_unavailable"}': CounterValues(0, 8),
                'support_attachment_stored_total{content_type="image/png"}': CounterValues(10, 2),
            },
            resolved_after=REPAIRED_MINUTE + 8,
        ),
        "one of ten replicas lacks its volume": Fault(
            ("SupportUploadsRefused",),
            {
                'support_attachment_rejected_total{reason="storage_unavailable"}': CounterValues(0, 3),
                'support_attachment_stored_total{content_type="image/png"}': CounterValues(30, 27),
            },
            resolved_after=REPAIRED_MINUTE + 8,
        ),
        "clients send files that are too large": Fault(
            (),
            {
                'support_attachment_rejected_total{reason="attachment_too_large"}': CounterValues(0, 8),
                'support_attachment_rejected_total{reason="storage_unavailable"}': CounterValues(0, 0.5),
                'support_attachment_stored_total{content_type="image/png"}': CounterValues(10, 2),
            },
        ),
    },
    drills=(
        DrillFault(
            "a replica without its volume",
            ("SupportUploadsRefused",),
            _one_lacks_its_volume,
            (Cause(1, '"REPLICA".*storage_unavailable'),),
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
