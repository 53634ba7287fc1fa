"""SupportVolumeNotShared: a replica stores files on another volume, or cases in another database, than the others."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from grafana.panel import Panel, Query, selector

from observability.drill import Cause, Deployment, DrillFault, DrillScenario, restarted_with
from observability.faults import Fault, GaugeValues
from observability.signal import AT_ONCE, SERVICE_JOB, SHARE_OF_REQUESTS, Alert, Record, Signal

VOLUME = "support_attachment_volume"
VOLUMES = 1  # that all replicas share; the number of a volume is random, so that equal numbers are no chance
VOLUMES_APART = "support:attachment_volume:difference"  # 0 if all replicas have one volume
DATABASE = "support_database_number"


def _of_replicas(number: str) -> str:
    return f"max by (instance) ({number}{{{SERVICE_JOB}}} > 0)"


def _differing(number: str) -> str:
    return f"{_of_replicas(number)} != on () group_left () quantile(0.5, {_of_replicas(number)})"


OF_FILES = "{{ if not $labels.dependency }}"


@asynccontextmanager
async def _one_has_a_volume_of_its_own(deployment: Deployment) -> AsyncIterator[None]:
    """The volume of one replica was not mounted when it started. The repair copies what the replica has stored."""
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


@asynccontextmanager
async def _one_uses_another_database(deployment: Deployment) -> AsyncIterator[None]:
    """The last replica got the Secret of another environment."""
    async with restarted_with(deployment.replicas[-1], SUPPORT_DATABASE_URL=await deployment.database.another()):
        yield
    deployment.traffic.acknowledged.clear()  # what is in the other database was not carried over


def volume(instance: str) -> str:
    """Return the series of the volume of a replica."""
    return f'{VOLUME}{{job="support-service",instance="{instance}"}}'


def _database(instance: str) -> str:
    return volume(instance).replace(VOLUME, DATABASE)


SIGNAL = Signal(
    group="attachments",
    alerts=(
        Alert(
            name="SupportVolumeNotShared",
            short=(
                "a replica stores files on a volume, or cases in a database, of its own",
                "một replica lưu file trên volume riêng, hoặc case trong database riêng",
            ),
            expr=f'{_differing(VOLUME)} or label_replace({_differing(DATABASE)}, "dependency", "database", "", "")',
            for_=AT_ONCE,
            severity="critical",
            summary=f"{{{{ $labels.instance }}}} stores {OF_FILES}files on another volume{{{{ else }}}}cases in "
            "another {{ $labels.dependency }}{{ end }} than most replicas, so that each misses what the other has. It "
            f"gets {SHARE_OF_REQUESTS} of all requests",
            description=f"The {OF_FILES}volume{{{{ else }}}}{{{{ $labels.dependency }}}}{{{{ end }}}} of "
            "{{ $labels.instance }} has the number {{ $value | printf `%.0f` }} (limit "
            f"{VOLUMES} for all replicas). {OF_FILES}Files that it stores are lost if its volume goes with it."
            "{{ else }}What agents enter there is missing in the service.{{ end }}",
            stated=(f"{VOLUMES} ",),
        ),
    ),
    records=(Record(VOLUMES_APART, f"max({_of_replicas(VOLUME)}) - min({_of_replicas(VOLUME)})"),),
    panels=(
        Panel(
            "Support attachment volumes",
            "How many volumes the replicas use for local files, and how many databases of PostgreSQL. No data without "
            "such files, or on SQLite. Normal: 1.",
            row="attachments",
            place=45,
            queries=tuple(
                Query(f'count(count_values("{what}", {selector(number)} > 0))', f"{what}s")
                for what, number in (("volume", VOLUME), ("database", DATABASE))
            ),
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
        "one of three replicas uses another database": Fault(
            ('SupportVolumeNotShared{instance="c",dependency="database"}',),
            {_database("a"): GaugeValues(7, 7), _database("b"): GaugeValues(7, 7), _database("c"): GaugeValues(7, 9)},
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
        DrillFault(
            "one replica uses another database",
            ("SupportVolumeNotShared[database]", "SupportProbeFailing"),
            _one_uses_another_database,
            (Cause(1, '"support_database_number".*"REPLICA"'),),
            only_repair="the replica needs the right address",
        ),
    ),
)
