"""`make bench` measures the service beside the bare server, the floor and the peer, or beside one replica of itself.

The short form runs a read that merges a timeline, and an upload, in the default configuration.
"""

import json
import os
import subprocess
import sys

import pytest
from benchmarks import scenarios
from benchmarks.row_sizes import FOLLOW_UPS

from tests.support.promql import ROOT

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.long]


SECONDS = os.environ.get("BENCH_SECONDS", "")  # for each measurement; the short form has none
SCENARIOS = list(scenarios.ALL) if SECONDS else ["timeline_cached", "upload"]
CONFIGURATIONS = {
    "sqlite, 1 replica": [],
    "postgresql, 1 replica": ["--database", "postgresql"],
    "postgresql, protected, 2 replicas": ["--protected", "--replicas", "2"],
}


@pytest.mark.parametrize("configuration", [*CONFIGURATIONS][: len(CONFIGURATIONS) if SECONDS else 1])
def test_every_scenario_runs_on_every_server(configuration, tmp_path):
    """A run of a fraction of a second: no request fails, and each server has a figure."""
    file = tmp_path / "figures.json"
    short = ["--seconds", SECONDS or "0.1", "--rounds", "1", "--connections", "8", "--cases", "8", "--json", str(file)]
    chosen = ["--scenarios", ",".join(SCENARIOS), *CONFIGURATIONS[configuration]]
    command = [sys.executable, "-m", "benchmarks", *short, *chosen]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(configuration)
    results = json.loads(file.read_text())["scenarios"]
    assert [result["scenario"] for result in results] == SCENARIOS
    servers = ("service", "baseline") if "replicas" in configuration else ("service", "baseline", "floor", "peer")
    for result in results:
        assert result["configuration"] == configuration
        for server in servers:
            assert min(result[server]["requests"], result[server]["cpu_ms"]) > 0
            assert result[server]["errors"] == {}
        assert (result["service"]["database_cpu_ms"] > 0) == configuration.startswith("postgresql")


def test_rows_of_a_case_are_counted():
    """One case, one row; each message, one row; three references."""
    command = [sys.executable, "-m", "benchmarks.row_sizes", "--cases", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in done.stdout.splitlines()}
    expected = {"tickets": "1.00", "messages": f"{1 + FOLLOW_UPS:.2f}", "ticket_references": "3.00"}
    assert rows | expected == rows
