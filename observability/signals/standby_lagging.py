"""SupportStandbyLagging: the standby answers no reads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, rate, selector

from observability.drill import Cause, Deployment, DrillFault, DrillScenario
from observability.faults import Fault, GaugeValues
from observability.signal import SYMPTOM_FOR, Alert, Signal

STANDBY_LAG = (
    5  # s; `max_lag` of the service: beyond it the primary answers. A restart or a failover ends within minutes
)
WITH_STANDBY = DrillScenario(standby=True)


def _status(status: str, instance: str = "a") -> str:
    return f'support_dependency_status{{instance="{instance}",dependency="standby",status="{status}"}}'


@asynccontextmanager
async def _replay_is_paused(deployment: Deployment) -> AsyncIterator[None]:
    """Someone has paused the replay, such as for a backup, and forgotten it."""
    standby = deployment.database.standby
    await asyncio.to_thread(standby.run, "SELECT pg_wal_replay_pause()")
    yield
    await asyncio.to_thread(standby.run, "SELECT pg_wal_replay_resume()")


@asynccontextmanager
async def _standby_is_down(deployment: Deployment) -> AsyncIterator[None]:
    standby = deployment.database.standby
    await asyncio.to_thread(standby.stop)
    yield
    await asyncio.to_thread(standby.start)


SIGNAL = Signal(
    group="dependencies",
    alerts=(
        Alert(
            name="SupportStandbyLagging",
            short=("the standby answers no reads", "standby không trả lời lượt đọc nào"),
            expr='count by (status) (support_dependency_status{dependency="standby",status!~"ok|off"} == 1)',
            for_=SYMPTOM_FOR,
            severity="warning",
            summary="{{ $value | humanize }} replicas read from the primary, not the standby: {{ $labels.status }}",
            description="{{ $value | humanize }} replicas do not use the standby (limit 0): it is over "
            f"{STANDBY_LAG} s behind (standby_lagging) or does not answer (standby_unavailable). The primary answers "
            "all lists, searches and counts, and has their load.",
            stated=(f"{STANDBY_LAG} s", SYMPTOM_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support standby lag",
            "Age of the newest state that the standby has, by replica. On the right: who answers lists, searches and "
            f"counts. Normal: under 1 s. Beyond {STANDBY_LAG} s the primary answers. No data without a standby.",
            row="dependencies",
            place=15,
            queries=(
                Query(selector("support_standby_lag_seconds"), "{{instance}}"),
                Query(rate("support_standby_reads_total", "outcome"), "{{outcome}}", right="ops"),
            ),
            unit="s",
        ),
    ),
    faults={
        "the standby is behind": Fault(
            ("SupportStandbyLagging",),
            {
                _status("ok"): GaugeValues(1, None),
                _status("standby_lagging"): GaugeValues(0, 1),
                _status("ok", "b"): GaugeValues(1, None),
                _status("standby_lagging", "b"): GaugeValues(0, 1),
            },
        ),
        "there is no standby": Fault((), {_status("off"): GaugeValues(1, 1)}),
    },
    drills=(
        DrillFault(
            "standby behind",
            ("SupportStandbyLagging",),
            _replay_is_paused,
            (Cause(1, '"standby_lagging"'), Cause(3, "'paused'")),
            scenario=WITH_STANDBY,
            only_repair="a superuser has to resume the replay, at the address of the standby",
        ),
        DrillFault(
            "standby down",
            ("SupportStandbyLagging",),
            _standby_is_down,
            (Cause(2, "it does not answer"),),
            scenario=WITH_STANDBY,
            only_repair="the standby has to be started",
        ),
    ),
)
