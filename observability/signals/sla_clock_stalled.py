"""SupportSlaClockStalled: breaches of service levels are not reported."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, highest_over_replicas

from observability.drill import Cause, Deployment, DrillFault
from observability.faults import Fault, GaugeValues
from observability.signal import EVENTS_FOR, Alert, Signal, scaled_seconds

SLA_UNREPORTED_AGE = 120  # s; a breach is reported within 5 s, and after a failover within 10 s


@asynccontextmanager
async def _breaches_are_not_reported(deployment: Deployment) -> AsyncIterator[None]:
    """The state of a clock can't be set to breached, as after a restore with other permissions."""
    refuse = "IF new.state = 'breached' THEN RAISE EXCEPTION 'a drill'; END IF"
    async with deployment.database.trigger("BEFORE UPDATE ON case_clocks", refuse):
        await deployment.traffic.promise_answers()
        await deployment.traffic.open_case(tags=["promised"])
        yield


SIGNAL = Signal(
    group="service-levels",
    alerts=(
        Alert(
            name="SupportSlaClockStalled",
            short=("breaches of service levels are not reported", "vi phạm mức dịch vụ không được báo cáo"),
            expr=f"max(support_sla_unreported_age_seconds) > {scaled_seconds(SLA_UNREPORTED_AGE)}",
            for_=EVENTS_FOR,
            severity="warning",
            summary="Breaches of service levels are reported late: one has waited {{ $value | humanizeDuration }}",
            description="The oldest breach that is not reported has waited {{ $value | humanizeDuration }} (limit "
            f"{SLA_UNREPORTED_AGE} s). Cases show it, but no event and no entry reports it, and no counter has it.",
            stated=(f"{SLA_UNREPORTED_AGE} s", EVENTS_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support reports of breaches",
            "Time since the first breach that is not reported (the line is its limit). Normal: under 5 s.",
            row="service levels",
            place=20,
            queries=(Query(highest_over_replicas("support_sla_unreported_age_seconds"), "not reported"),),
            unit="s",
            limit=SLA_UNREPORTED_AGE,
            width=12,
        ),
    ),
    faults={
        "breaches are not reported": Fault(
            ("SupportSlaClockStalled",),
            {"support_sla_unreported_age_seconds": GaugeValues(SLA_UNREPORTED_AGE / 2, SLA_UNREPORTED_AGE * 2)},
        )
    },
    drills=(
        DrillFault(
            "breaches not reported",
            ("SupportSlaClockStalled",),
            _breaches_are_not_reported,
            (Cause(2, "Reporting breaches of service levels failed"),),
            only_repair="the database has to permit the change",
        ),
    ),
)
