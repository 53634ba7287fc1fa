"""SupportVolumeNotShared: a replica stores files on another volume than the others."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from grafana.panel import Panel, Query, selector

from observability.drill import Cause, Deployment, DrillFault, DrillScenario
from observability.faults import Fault, GaugeValues
from observability.signal import AT_ONCE, SERVICE_JOB, SHARE_OF_REQUESTS, Alert, Record, Signal

VOLUME = "support_attachment_volume"
VOLUMES = 1  # that all replicas share; the number of a volume is random, so that equal numbers are no chance
VOLUMES_APART = "support:attachment_volume:difference"  # 0 if all replicas have one volume
VOLUME_OF = f"max by (instance) ({VOLUME}{{{SERVICE_JOB}}} > 0)"


@asynccontextmanager
async def _one_has_a_volume_of_its_own(deployment: Deployment) -> AsyncIterator[None]:
    """The volume of one replica was not mounted when it started; the repair copies what the replica has stored."""
    replica, own = deployment.replicas[-1], deployment.folder / "own"
    shared = replica.environment["SUPPORT_ATTACHMENT_DIR"]
    own.mkdir()
    await _start_with(replica, str(own))
    yield
    replica.kill()
    shutil.copytree(own, shared, ignore=shutil.ignore_patterns(".volume"), dirs_exist_ok=True)
    await _start_with(replica, shared)


async def _start_with(replica: Any, folder: str) -> None:
    replica.kill()  # in its scenario a stop takes an hour
    replica.environment["SUPPORT_ATTACHMENT_DIR"] = folder
    await replica.start()


def volume(instance: str) -> str:
    """Return the series of the volume of a replica."""
    return f'{VOLUME}{{job="support-service",instance="{instance}"}}'


SIGNAL = Signal(
    group="attachments",
    alerts=(
        Alert(
            name="SupportVolumeNotShared",
            short=("a replica stores files on a volume of its own", "một replica lưu file trên volume riêng"),
            expr=f"{VOLUME_OF} != on () group_left () quantile(0.5, {VOLUME_OF})",
            for_=AT_ONCE,
            severity="critical",
            summary="{{ $labels.instance }} stores files on another volume than most replicas, so that each misses "
            f"files of the other; it gets {SHARE_OF_REQUESTS} of all requests",
            description="The volume of {{ $labels.instance }} has the number {{ $value | printf `%.0f` }} (limit "
            f"{VOLUMES} volume for all replicas). Files that it stores are lost if its volume goes with it.",
            stated=(f"{VOLUMES} ",),
        ),
    ),
    records=(Record(VOLUMES_APART, f"max({VOLUME_OF}) - min({VOLUME_OF})"),),
    panels=(
        Panel(
            "Support attachment volumes",
            "How many volumes the replicas use for local files; no data without such files. Normal: 1.",
            row="attachments",
            place=45,
            queries=(Query(f'count(count_values("volume", {selector(VOLUME)} > 0))', "volumes"),),
            unit="short",
            limit=VOLUMES,
        ),
    ),
    faults={
        "one of three replicas has a volume of its own": Fault(
            ('SupportVolumeNotShared{instance="c"}',),
            {
                volume("a"): GaugeValues(3735928559, 3735928559),
                volume("b"): GaugeValues(3735928559, 3735928559),
                volume("c"): GaugeValues(3735928559, 195948557),
            },
        ),
        "each of two replicas has a volume of its own": Fault(
            ('SupportVolumeNotShared{instance="a"}', 'SupportVolumeNotShared{instance="b"}'),
            {volume("a"): GaugeValues(7, 7), volume("b"): GaugeValues(7, 9)},
        ),
        "the first file is stored, and one replica does not know it yet": Fault(
            (), {volume("a"): GaugeValues(0, 7), volume("b"): GaugeValues(0, 0)}
        ),
        "all replicas move to another volume": Fault(
            (), {volume("a"): GaugeValues(7, 9), volume("b"): GaugeValues(7, 9)}
        ),
    },
    drills=(
        DrillFault(
            "a volume is not shared",
            ("SupportVolumeNotShared",),
            _one_has_a_volume_of_its_own,
            (Cause(1, '"REPLICA"'),),
            scenario=DrillScenario(manipulated=True),
            only_repair="the shared volume has to be mounted",
        ),
    ),
)
