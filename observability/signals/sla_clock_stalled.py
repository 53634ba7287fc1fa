"""SupportSlaClockStalled: breaches of service levels are not reported."""

from grafana.panel import Panel, Query, highest

from observability.faults import Fault, Gauge
from observability.signal import EVENTS_FOR, Alert, Signal, seconds

SLA_UNREPORTED_AGE = 120  # s; a breach is reported within 5 s, and after a failover within 10 s

SIGNAL = Signal(
    group="service-levels",
    alerts=(
        Alert(
            name="SupportSlaClockStalled",
            short=("breaches of service levels are not reported", "vi phạm mức dịch vụ không được báo cáo"),
            expr=f"max(support_sla_unreported_age_seconds) > {seconds(SLA_UNREPORTED_AGE)}",
            for_=EVENTS_FOR,
            severity="warning",
            summary="Breaches of service levels are not reported: one has waited {{ $value | humanizeDuration }}",
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
            queries=(Query(highest("support_sla_unreported_age_seconds"), "not reported"),),
            unit="s",
            limit=SLA_UNREPORTED_AGE,
            width=12,
        ),
    ),
    faults={
        "breaches are not reported": Fault(
            ("SupportSlaClockStalled",), {"support_sla_unreported_age_seconds": Gauge(0, 60, 60)}
        ),
    },
)
