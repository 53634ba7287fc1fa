"""SupportIngressFailing: the ingress does not lead to the service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, highest_over_replicas

from observability.drill import Cause, Deployment, DrillFault, DrillScenario, Exercise
from observability.faults import Fault, GaugeValues
from observability.signal import CAUSE_KEPT, SYMPTOM_FOR, Alert, Signal, value_template
from observability.signals.probe_failing import DIRECT, GOOD, INGRESS, PROBE_JOB, steps

INGRESS_FOR = "3m"  # three failed runs through the ingress, while the direct runs succeed


ARRIVAL = f'rate(support_request_received_total{{synthetic="other"}}[{SYMPTOM_FOR}]'
ARRIVING, ARRIVED = f"sum({ARRIVAL})) > 0", f"sum({ARRIVAL} offset 1h)) > 0"
NOTHING_IS_SERVED = "http-request return status 404"  # of HAProxy
LARGE_FILES_ARE_REFUSED = "http-request return status 413 if { req.hdr_val(content-length) gt 1048576 }"
LARGE_FILE = DrillScenario(probe=("--upload-size=4MiB",))


@asynccontextmanager
async def _nothing_is_routed(deployment: Deployment) -> AsyncIterator[None]:
    """The load balancer answers every request with 404, as after a wrong change of its rules."""
    await deployment.load_balancer.start(deployment.replicas, NOTHING_IS_SERVED)
    yield
    await deployment.load_balancer.start(deployment.replicas)


@asynccontextmanager
async def _large_files_are_refused(deployment: Deployment) -> AsyncIterator[None]:
    """The load balancer has a limit of 1 MiB for bodies, as nginx has unless another one is set."""
    await deployment.load_balancer.start(deployment.replicas, LARGE_FILES_ARE_REFUSED)
    yield
    await deployment.load_balancer.start(deployment.replicas)


SIGNAL = Signal(
    group="events",
    alerts=(
        Alert(
            name="SupportIngressFailing",
            short=("the ingress does not lead to the service", "ingress không dẫn tới service"),
            expr=f"max by (instance) ({GOOD}{{{INGRESS}}}) == 0 and on () max({GOOD}{{{DIRECT}}}) == 1",
            for_=INGRESS_FOR,
            severity="critical",
            summary=f"The check through the ingress fails at step{steps(INGRESS)}, and directly it succeeds. "
            f"{value_template(ARRIVING, otherwise='No')} requests a second of others arrive, an hour ago "
            f"{value_template(ARRIVED, otherwise='none')}",
            description="The check through the ingress fails, while the same check directly at the service succeeds. "
            f"Its result has been {{{{ $value }}}} for {INGRESS_FOR} (limit: 1, which means success). 404: a host or "
            "a path of the ingress leads elsewhere. 502 to 504: it finds no replica. No status: DNS, TLS or a timeout.",
            keep_firing_for=CAUSE_KEPT,
            stated=(INGRESS_FOR,),
        ),
    ),
    panels=(
        Panel(
            "Support probe",
            "The last run of the synthetic check, directly at the service, and through its ingress. It opens a case "
            "and waits until a synthetic event is in its timeline.",
            row="probe",
            place=10,
            queries=(Query(highest_over_replicas("support_probe_success", "via", job=PROBE_JOB), "{{via}}"),),
            unit="short",
            limit=1,
            low=True,
            alerts=("SupportProbeFailing", "SupportIngressFailing", "SupportProbeMissing"),
            kind="states",
            words={"0": "failed", "1": "good"},
        ),
    ),
    faults={
        "the ingress leads elsewhere": Fault(
            ("SupportIngressFailing",), {'support_probe_success{job="support-probe",via="ingress"}': GaugeValues(1, 0)}
        )
    },
    drills=(
        DrillFault(
            "ingress answers 404",
            ("SupportIngressFailing",),
            _nothing_is_routed,
            (Cause(1, '"status": "404"'),),
            only_repair="the rule of the ingress has to be taken back",
        ),
        DrillFault(
            "ingress refuses large files",
            ("SupportIngressFailing",),
            _large_files_are_refused,
            (Cause(1, '"413", "step": "upload"'),),
            scenario=LARGE_FILE,
            only_repair="the limit is in the configuration of the ingress",
        ),
    ),
    exercises=(
        Exercise(
            ("make the ingress answer every request with 404", "cho ingress trả 404 với mọi request"),
            ("take its rule back", "bỏ rule đó"),
        ),
    ),
)
