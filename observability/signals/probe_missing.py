"""SupportProbeMissing: the synthetic check does not run."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from observability.drill import Action, Cause, Deployment, DrillFault, Exercise
from observability.faults import PROBE_SERIES, Fault, GaugeValues
from observability.signal import Alert, Signal

PROBE_MISSING_FOR = "5m"  # longer than the probe's own deployment


@asynccontextmanager
async def _probe_stops(deployment: Deployment) -> AsyncIterator[None]:
    deployment.probe.kill()
    yield
    await deployment.probe.start()


SIGNAL = Signal(
    group="events",
    alerts=(
        Alert(
            name="SupportProbeMissing",
            short=("the synthetic check does not run", "synthetic check không chạy"),
            expr="(count(support_probe_success) or vector(0)) == 0",
            for_=PROBE_MISSING_FOR,
            severity="warning",
            summary="The synthetic check does not run",
            description=f"{{{{ $value }}}} probes have answered a scrape in {PROBE_MISSING_FOR} (limit: at least 1). "
            "Failures that only the probe detects go unnoticed.",
            panel="Support probe",
            stated=(PROBE_MISSING_FOR,),
        ),
    ),
    faults={"the probe is gone": Fault(("SupportProbeMissing",), {PROBE_SERIES: GaugeValues(1, None)})},
    drills=(
        DrillFault(
            "probe stopped",
            ("SupportProbeMissing",),
            _probe_stops,
            (Cause(2, " 0$"),),
            actions=(Action("Restart the probe"),),
        ),
    ),
    exercises=(Exercise(("stop the probe", "dừng probe"), ("start the probe", "khởi động probe")),),
)
