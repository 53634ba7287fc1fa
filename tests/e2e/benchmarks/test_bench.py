"""`make bench` measures the service, the bare server and the peer in each configuration."""

import json
import subprocess
import sys

import pytest
from benchmarks import scenarios

from tests.support.promql import ROOT

pytestmark = pytest.mark.usefixtures("processes")


@pytest.mark.parametrize(
    ("options", "configuration"),
    [
        ([], "sqlite, 1 replica"),
        (["--protected", "--replicas", "2"], "postgresql, protected, 2 replicas"),
    ],
    ids=["default", "protected-replicas"],
)
def test_every_scenario_runs_on_every_server(options, configuration, tmp_path):
    """A run of a fraction of a second: no request fails, and each server has a figure."""
    file = tmp_path / "figures.json"
    short = ["--seconds", "0.1", "--rounds", "1", "--connections", "8", "--cases", "8", "--json", str(file)]
    command = [sys.executable, "-m", "benchmarks", *short, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(configuration)
    results = json.loads(file.read_text())["scenarios"]
    assert [result["scenario"] for result in results] == list(scenarios.ALL)
    for result in results:
        assert result["configuration"] == configuration
        for server in ("service", "baseline", "peer"):
            assert result[server]["requests"] > 0
            assert result[server]["cpu_ms"] > 0
            assert result[server]["errors"] == {}
        assert (result["service"]["database_cpu_ms"] > 0) == configuration.startswith("postgresql")
