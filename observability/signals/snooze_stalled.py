"""SupportSnoozeStalled: snoozed cases do not come back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, highest_over_replicas, hourly_rate

from observability.drill import Cause, Deployment, DrillFault
from observability.faults import Fault, GaugeValues
from observability.signal import EVENTS_FOR, Alert, Signal, scaled_seconds

SNOOZE_OVERDUE_AGE = 120  # s; a case is opened within 2 s, after a failover within 5 s, and the age is read each 15 s


@asynccontextmanager
async def _cases_do_not_wake(deployment: Deployment) -> AsyncIterator[None]:
    """A snoozed case can't be opened, as after a restore with other permissions."""
    refuse = "IF old.status = 'pending' AND new.status = 'open' THEN RAISE EXCEPTION 'a drill'; END IF"
    async with deployment.database.trigger("BEFORE UPDATE ON tickets", refuse):
        await deployment.traffic.open_case(read=False)
        await deployment.database.run(
            "UPDATE tickets SET status = 'pending', snoozed_until = now() WHERE seq = (SELECT max(seq) FROM tickets)"
        )
        yield


SIGNAL = Signal(
    group="service-levels",
    alerts=(
        Alert(
            name="SupportSnoozeStalled",
            short=("snoozed cases do not come back", "case tạm hoãn không mở lại"),
            expr=f"max(support_snooze_overdue_age_seconds) > {scaled_seconds(SNOOZE_OVERDUE_AGE)}",
            for_=EVENTS_FOR,
            severity="warning",
            summary="Snoozed cases come back late: the first one is overdue by {{ $value | humanizeDuration }}",
            description="The snooze of a case ended {{ $value | humanizeDuration }} ago, and the case is still pending "
            f"(limit {SNOOZE_OVERDUE_AGE} s). Agents do not find it among the open cases.",
            stated=(f"{SNOOZE_OVERDUE_AGE} s", EVENTS_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support snoozed cases",
            "Time since the end of the first snooze whose case is still pending (the line is its limit). Normal: under "
            "20 s. On the right, cases that were opened per hour.",
            row="service levels",
            place=30,
            queries=(
                Query(highest_over_replicas("support_snooze_overdue_age_seconds"), "overdue"),
                Query(hourly_rate("support_snooze_woken_total"), "opened", right="suffix: /h"),
            ),
            unit="s",
            limit=SNOOZE_OVERDUE_AGE,
            width=12,
        ),
    ),
    faults={
        "snoozed cases are not opened": Fault(
            ("SupportSnoozeStalled",),
            {"support_snooze_overdue_age_seconds": GaugeValues(SNOOZE_OVERDUE_AGE / 2, SNOOZE_OVERDUE_AGE * 2)},
        ),
        "many cases are opened, each a little late": Fault(
            (), {"support_snooze_overdue_age_seconds": GaugeValues(0, 15, 0)}
        ),
    },
    drills=(
        DrillFault(
            "snoozed cases not opened",
            ("SupportSnoozeStalled",),
            _cases_do_not_wake,
            (Cause(2, "Opening snoozed cases failed"),),
            only_repair="the database has to permit the change",
        ),
    ),
)
