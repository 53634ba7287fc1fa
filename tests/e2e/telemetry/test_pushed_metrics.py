"""Replicas and the probe push their metrics, and the alerts that a scrape's `up` gives come from what is missing."""

import signal
from contextlib import AsyncExitStack

import aiohttp
import pytest
from observability import rules

from tests.support.backends import VictoriaMetrics, VmAlert
from tests.support.calls import GENEROUS_TIMEOUT, eventually
from tests.support.process import LONG_TIMEOUTS, running
from tests.support.servers import free_port
from tests.support.upstream import url_variables

TIME = 20  # by which the durations of the rules are divided: a replica is missed after 3 s
VISIBLE_AFTER = "5s"  # when a pushed sample can be queried
ALERTED_WITHIN = 3 * GENEROUS_TIMEOUT
REPLICAS = ("stopped", "killed", "last")


@pytest.fixture
def monitored(start, tmp_path):
    """A VictoriaMetrics that takes what replicas push, and a vmalert with the pushed rules."""
    (tmp_path / "rules").mkdir()
    for name, document in rules.rule_files(time=TIME, pushed=True).items():
        (tmp_path / "rules" / f"{name}.yaml").write_text(rules.dump_yaml(document))
    metrics = start(VictoriaMetrics, tmp_path / "victoria")
    return metrics, start(VmAlert, tmp_path / "vmalert", metrics, tmp_path / "rules" / "*.yaml", VISIBLE_AFTER)


@pytest.fixture
def pushing(processes, monitored, migrated_folder, sources):
    """Start a replica that pushes every two seconds, also at its end, and keeps its name when it starts again."""

    async def start(stack, name):
        port = free_port()
        variables = url_variables(sources) | {
            "SUPPORT_PORT": str(port),
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": monitored[0].otlp,
            "OTEL_METRIC_EXPORT_INTERVAL": "2000",
            "OTEL_RESOURCE_ATTRIBUTES": f"service.instance.id={name}",
        }
        replica = await stack.enter_async_context(running("serve", cwd=migrated_folder, **variables, **LONG_TIMEOUTS))
        await replica.wait_until_ready(f"http://127.0.0.1:{port}")
        return replica

    return start


def replicas_that_pushed(metrics, value):
    """Return the replicas whose last sample of readiness has a value."""
    query = f'last_over_time(support_replica_ready{{job="support-service"}}[1h]) == {value}'
    return {labels["instance"] for labels, _ in metrics.query(query)}


@pytest.mark.long
async def test_lost_replicas_are_noticed_and_stopped_ones_are_not(pushing, monitored):
    """A replica that is killed raises an alert; one that is stopped does not; without any, the service is down."""
    metrics, alerts = monitored
    async with AsyncExitStack() as stack:
        stopped, killed, last = [await pushing(stack, name) for name in REPLICAS]
        await eventually(lambda: replicas_that_pushed(metrics, 1) == {*REPLICAS}, ALERTED_WITHIN)
        await eventually(lambda: "Watchdog" in alerts.firing(), ALERTED_WITHIN)

        stopped.stop()
        assert (await stopped.wait_for_exit())[0] == 0
        await eventually(lambda: replicas_that_pushed(metrics, 0) == {"stopped"}, ALERTED_WITHIN)
        killed.stop(signal.SIGKILL)
        await killed.wait_for_exit()
        await eventually(lambda: "SupportReplicaDown" in alerts.firing(), ALERTED_WITHIN)
        (lost,) = alerts.firing()["SupportReplicaDown"]
        assert lost["labels"]["instance"] == "killed"
        assert lost["annotations"]["summary"] == "The replica killed does not answer"
        assert "has pushed no metrics" in lost["annotations"]["description"]

        again = await pushing(stack, "killed")
        await eventually(lambda: "SupportReplicaDown" not in alerts.firing(), ALERTED_WITHIN)
        for replica in (again, last):
            replica.stop(signal.SIGKILL)
        await eventually(lambda: "SupportServiceDown" in alerts.firing(), ALERTED_WITHIN)


async def test_probe_pushes_its_results_and_serves_them(processes, monitored, tmp_path):
    """As job `support-probe`, which the rules know; where nothing answers, the check fails."""
    metrics, _ = monitored
    address = f"127.0.0.1:{free_port()}"
    arguments = ("probe", f"--base-url=http://127.0.0.1:{free_port()}", "--interval=1s", f"--listen={address}")
    variables = {
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": metrics.otlp,
        "OTEL_METRIC_EXPORT_INTERVAL": "250",
    }
    async with running(*arguments, cwd=tmp_path, **variables) as probe, aiohttp.ClientSession() as session:
        await probe.read_output(until="verdict")
        async with session.get(f"http://{address}/metrics") as response:
            assert 'support_probe_success{via="service"} 0.0' in await response.text()
        query = 'support_probe_success{job="support-probe",instance!=""}'
        ((labels, value),) = await eventually(lambda: metrics.query(query), ALERTED_WITHIN)
        assert (labels["via"], value) == ("service", 0)
