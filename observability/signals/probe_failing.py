"""SupportProbeFailing: the synthetic check fails."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, highest_over_replicas

from observability.drill import Cause, Deployment, DrillFault, changed_attributes
from observability.faults import PROBE_SERIES, CounterValues, Fault, GaugeValues
from observability.signal import Alert, Signal
from observability.signals.api_error_budget import REQUESTS_FAILING
from observability.signals.events_consumer_stalled import STREAM_WAITING, WAITING, consumer_may_not_read
from observability.signals.uploads_refused import S3_STORE

PROBE_FOR = "5m"  # five failed runs at the usual interval of a minute; a symptom, whose cause has fired by then
DIRECT, INGRESS = 'via!="ingress"', 'via="ingress"'
GOOD = "support_probe_success"
FAILED_STEP = "support_probe_step_failure"
# A run fails only because its event waits behind others. SupportEventsConsumerStalled tells if it waits too long; other
# failures of the same step have another code.
EVENT_WAITS = (
    f'{FAILED_STEP}{{{DIRECT},step="timeline",code="event_missing"}} == 1 unless on (instance)'
    f' {FAILED_STEP}{{{DIRECT},step!="timeline"}} == 1 and on () {WAITING} > {STREAM_WAITING}'
)


def steps(via: str) -> str:
    """Return text of a template that names each failed step with status and code of its answer, and a file's size."""
    failed = f"max by (step, status, code) (support_probe_step_failure{{{via}}})"
    largest = f"{{{{ with query `max(support_probe_upload_size_bytes{{{via}}})` }}}}"
    size = f"{largest} of {{{{ . | first | value | humanize1024 }}}}B{{{{ end }}}}"
    answer = "{{ with .Labels.status }} with {{ . }}{{ end }}{{ with .Labels.code }} {{ . }}{{ end }}"
    step = f'{{{{ .Labels.step }}}}{{{{ if eq .Labels.step "upload" }}}}{size}{{{{ end }}}}'
    return f"{{{{ range query `{failed}` }}}} {step}{answer}{{{{ end }}}}"


def _failure(step: str, code: str = "", status: str = "") -> str:
    return f'{FAILED_STEP}{{job="support-probe",step="{step}",status="{status}",code="{code}"}}'


PROBE_JOB = 'job=~".*probe.*"'  # the probe is a process of its own


@asynccontextmanager
async def _s3_is_slow(deployment: Deployment) -> AsyncIterator[None]:
    async with changed_attributes(deployment.s3_proxy, delay=3.5):
        yield


SIGNAL = Signal(
    group="events",
    alerts=(
        Alert(
            name="SupportProbeFailing",
            short=("the synthetic check fails", "synthetic check lỗi"),
            expr=f"max by (instance) ({GOOD}{{{DIRECT}}}) == 0 unless on (instance) ({EVENT_WAITS})",
            for_=PROBE_FOR,
            severity="critical",
            summary=f"The synthetic check of a whole case fails at step{steps(DIRECT)}: {REQUESTS_FAILING}",
            description="The probe opens a case and waits until an event appears in its timeline. Its result has been "
            f"{{{{ $value }}}} for {PROBE_FOR} (limit: 1, which means success). Agents may fail at the same step.",
            stated=(f"{STREAM_WAITING} event", PROBE_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support probe steps that succeed",
            "Which steps of the last run were good. Steps after a failed one may be skipped.",
            row="probe",
            place=20,
            queries=(
                Query(
                    highest_over_replicas("support_probe_step_success", "via, step", job=PROBE_JOB), "{{via}} {{step}}"
                ),
            ),
            unit="short",
            limit=1,
            low=True,
            kind="states",
            words={"0": "failed", "1": "good"},
        ),
        Panel(
            "Support probe steps",
            "Duration of each step of the last run.",
            row="probe",
            place=30,
            queries=(
                Query(
                    highest_over_replicas("support_probe_step_seconds", "via, step", job=PROBE_JOB), "{{via}} {{step}}"
                ),
            ),
            unit="s",
        ),
        Panel(
            "Support probe last success",
            "Time since the last good run.",
            row="probe",
            place=40,
            queries=(
                Query(
                    "time() - "
                    + highest_over_replicas("support_probe_last_success_timestamp_seconds", "via", job=PROBE_JOB),
                    "{{via}}",
                ),
            ),
            unit="s",
            alerts=("SupportProbeFailing", "SupportProbeMissing"),
        ),
    ),
    faults={
        "the event of the probe waits behind many": Fault(
            (),
            {
                PROBE_SERIES: GaugeValues(1, 0),
                _failure("timeline", "event_missing"): GaugeValues(0, 1),
                "support_events_stream_lag": GaugeValues(2, 290, -4),
                'support_events_consumed_total{outcome="applied"}': CounterValues(50, 54),
            },
        ),
        "the event of the probe is lost": Fault(
            ("SupportProbeFailing",),
            {
                PROBE_SERIES: GaugeValues(1, 0),
                _failure("timeline", "event_missing"): GaugeValues(0, 1),
                "support_events_stream_lag": GaugeValues(2, 2),
            },
        ),
        "timelines fail while events wait": Fault(
            ("SupportProbeFailing",),
            {
                PROBE_SERIES: GaugeValues(1, 0),
                _failure("timeline", "overloaded", "503"): GaugeValues(0, 1),
                "support_events_stream_lag": GaugeValues(2, 4000, -90),
                'support_events_consumed_total{outcome="applied"}': CounterValues(50, 140),
            },
        ),
        "uploads are slow while events wait": Fault(
            ("SupportProbeFailing",),
            {
                PROBE_SERIES: GaugeValues(1, 0),
                _failure("timeline", "event_missing"): GaugeValues(0, 1),
                _failure("upload"): GaugeValues(0, 1),
                "support_events_stream_lag": GaugeValues(2, 4000, -90),
                'support_events_consumed_total{outcome="applied"}': CounterValues(50, 140),
            },
        ),
        "the probe fails": Fault(("SupportProbeFailing",), {PROBE_SERIES: GaugeValues(1, 0)}),
        "the service fails behind its ingress": Fault(
            ("SupportProbeFailing",),
            {
                PROBE_SERIES: GaugeValues(1, 0),
                'support_probe_success{job="support-probe",via="ingress"}': GaugeValues(1, 0),
            },
        ),
    },
    drills=(
        DrillFault(
            "S3 slow",
            ("SupportProbeFailing",),
            _s3_is_slow,
            (Cause(1, r'"step": "upload",[^}]*"verdict": "slow"'),),
            scenario=S3_STORE,
            only_repair="S3 has to become faster",
        ),
        DrillFault(
            "probe fails",
            ("SupportProbeFailing",),
            consumer_may_not_read,
            (Cause(1, r'"step": "timeline",[^}]*"verdict": "wrong"'),),
            only_repair="Redis has to permit the command",
        ),
    ),
)
