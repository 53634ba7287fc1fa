"""SupportTicketTrafficAnomaly: far more or far fewer new cases than usual."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import HOUR_SECONDS, JOB_SELECTOR, Panel, Query

from observability.drill import Cause, Deployment, DrillFault, changed_attributes
from observability.signal import CAUSE_FOR, Alert, Record, Signal, duration_seconds, scaled_seconds

TRAFFIC_SPIKE = 4  # multiple of the second highest of the seven days; sales and Mondays stay below three
TRAFFIC_SPIKE_FLOOR = 20  # additional cases in SPIKE_WINDOW, so that a handful in a quiet night is not a spike
SPIKE_WINDOW = "5m"  # detects a spike in minutes, and resolves in as many
TRAFFIC_SILENCE = 0.1  # share of the second lowest of the seven days; a day's noise never comes near
SILENCE_WINDOW = "15m"  # silence takes longer to distinguish from chance
TRAFFIC_SILENCE_FLOOR = 20  # expected cases in SILENCE_WINDOW; two or fewer of 20 by chance: once in 2 million
TRAFFIC_HOUR = "1h"  # range around the same time of day, because rush hours do not start at the same minute
TRAFFIC_PAST = 7  # days of history, with each day of the week once
TRAFFIC_DAYS = 3  # minimum days of history; fewer do not define a usual day
CREATED = 'support_ticket_created_total{channel!="synthetic"}'
SILENCE = (
    f"sum(increase({CREATED}[{SILENCE_WINDOW}])) < {TRAFFIC_SILENCE}"
    f" * (support:tickets_created:expected_low * {scaled_seconds(duration_seconds(SILENCE_WINDOW))}"
    f" >= {TRAFFIC_SILENCE_FLOOR})"
)
SPIKE = (
    f"sum(increase({CREATED}[{SPIKE_WINDOW}])) > {TRAFFIC_SPIKE_FLOOR} + {TRAFFIC_SPIKE}"
    f" * support:tickets_created:expected_high * {scaled_seconds(duration_seconds(SPIKE_WINDOW))}"
)
PAST = "day:support_tickets_created:same_hour"
# The average of the half hours before and after the same time of each past day.
SAME_HOUR = " or ".join(
    f"label_replace(avg_over_time(support:tickets_created:rate15m[{TRAFFIC_HOUR}]"
    f' offset {24 * day - 1}h30m), "day", "{day}", "", "")'
    for day in range(1, TRAFFIC_PAST + 1)
)
ENOUGH = f"count({PAST}) >= {TRAFFIC_DAYS}"
# With seven days these are exactly the second lowest and the second highest: a weekend counts as usual, one odd day
# does not.
SECOND_LOWEST, SECOND_HIGHEST = "1/6", "5/6"
NEW_CASES = "support_ticket_created_total"
LOW, HIGH = "support:tickets_created:expected_low", "support:tickets_created:expected_high"
REAL = 'channel!="synthetic"'
SILENCE_FLOOR = TRAFFIC_SILENCE_FLOOR * HOUR_SECONDS / duration_seconds(SILENCE_WINDOW)
# The alert's floors, converted from cases in its windows to cases an hour.
SPIKE_FLOOR = TRAFFIC_SPIKE_FLOOR * HOUR_SECONDS / duration_seconds(SPIKE_WINDOW)


@asynccontextmanager
async def _case_volume_is_high(deployment: Deployment) -> AsyncIterator[None]:
    async with changed_attributes(deployment.traffic, unread_cases=45.0):
        yield


@asynccontextmanager
async def _no_cases_are_opened(deployment: Deployment) -> AsyncIterator[None]:
    async with changed_attributes(deployment.traffic, cases=0.0):
        yield


SIGNAL = Signal(
    group="traffic",
    alerts=(
        Alert(
            name="SupportTicketTrafficAnomaly",
            short=("far more or far fewer new cases than usual", "case mới nhiều hoặc ít hơn hẳn thường lệ"),
            expr=f'label_replace({SPIKE}, "direction", "spike", "", "")'
            f' or label_replace({SILENCE}, "direction", "silence", "", "")',
            for_=CAUSE_FOR,
            severity="warning",
            summary="Unusual number of new cases: {{ $labels.direction }}",
            description=f"{{{{ $value | humanize }}}} cases were opened in the last {SPIKE_WINDOW} (spike) or "
            f"{SILENCE_WINDOW} (silence). The limit is {TRAFFIC_SPIKE} times (spike) or {TRAFFIC_SILENCE:.0%} "
            f"(silence) of the usual number in the same hour of the past {TRAFFIC_PAST} days.",
            stated=(
                f"{TRAFFIC_SPIKE} ",
                f"{TRAFFIC_SILENCE * 100:g} %",
                f"{TRAFFIC_SPIKE_FLOOR} ",
                f"{TRAFFIC_DAYS} ",
                SPIKE_WINDOW,
                SILENCE_WINDOW,
            ),
        ),
    ),
    records=(
        Record("support:tickets_created:rate15m", f"sum(rate({CREATED}[{SILENCE_WINDOW}]))"),
        Record(PAST, SAME_HOUR),
        Record("support:tickets_created:expected_low", f"quantile({SECOND_LOWEST}, {PAST}) and {ENOUGH}"),
        Record("support:tickets_created:expected_high", f"quantile({SECOND_HIGHEST}, {PAST}) and {ENOUGH}"),
    ),
    panels=(
        Panel(
            "Support ticket traffic",
            "New cases per hour, with the usual range for this hour over the past 7 days. Dashed: limits of the "
            f"alert, {TRAFFIC_SPIKE} times the upper edge plus a minimum, and {TRAFFIC_SILENCE:.0%} of the lower "
            f"edge. The band needs {TRAFFIC_DAYS} days of history.",
            row="cases",
            place=10,
            queries=(
                Query(
                    f"sum(rate({NEW_CASES}{{{JOB_SELECTOR},{REAL}}}[{SILENCE_WINDOW}])) * {HOUR_SECONDS}", "new cases"
                ),
                Query(f"{HIGH} * {HOUR_SECONDS}", "usual, upper edge"),
                Query(f"{LOW} * {HOUR_SECONDS}", "usual, lower edge"),
                Query(f"{HIGH} * {TRAFFIC_SPIKE * HOUR_SECONDS} + {SPIKE_FLOOR:g}", "flood", dashed=True),
                Query(f"({LOW} * {HOUR_SECONDS} >= {SILENCE_FLOOR:g}) * {TRAFFIC_SILENCE}", "silence", dashed=True),
            ),
            unit="suffix: /h",
            width=12,
        ),
    ),
    drills=(
        DrillFault(
            "many new cases",
            ("SupportTicketTrafficAnomaly[spike]",),
            _case_volume_is_high,
            (Cause(1, "email"),),
            only_repair="the sender has to stop",
        ),
        DrillFault(
            "no new cases",
            ("SupportTicketTrafficAnomaly[silence]",),
            _no_cases_are_opened,
            (Cause(1, "} 0$"),),
            only_repair="the gateway has to be rolled back",
        ),
    ),
)
