"""Rules for metrics that replicas push: they need no `up`, and VictoriaMetrics and Prometheus evaluate them alike."""

import fcntl
import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml
from observability import rules
from observability.signals import ALERTS

from tests.support.servers import find_binary

UP, READY = "up{", "support_replica_ready{"
DAYS = {"quiet-night", "noisy-day", "traffic"}  # take long, and no rule of theirs differs
TOOL_LOCK = Path(tempfile.gettempdir()) / "vmalert-tool.lock"  # its port cannot be chosen: one at a time


def pushed_series(series):
    """Return series as they are where replicas push: instead of an `up` of 0 a series has no samples."""
    pushed = {each["series"].replace(UP, READY, 1): without_zeros(each) for each in series if UP in each["series"]}
    own = {each["series"]: each["values"] for each in series if UP not in each["series"]}
    return [{"series": name, "values": values} for name, values in (pushed | own).items()]


def without_zeros(series):
    return re.sub(r"(?<!\S)0\+0x(\d+)", lambda found: f"_x{int(found[1]) + 1}", series["values"])


def concerns_replicas(test):
    """Whether replicas go or are not ready in a test: only then do pushed and scraped series differ."""
    return any(each["series"].startswith((UP, READY)) and " " in each["values"] for each in test["input_series"])


def rule_tests():
    """Return the files of faults by name: with the tests that differ, in the long form with all."""
    files = {name: document for name, document in rules.rule_test_files().items() if name not in DAYS}
    if not os.environ.get("PUSHED_FAULTS"):
        for document in files.values():
            document["tests"] = [test for test in document["tests"] if concerns_replicas(test)]
    return {name: document for name, document in files.items() if document["tests"]}


@pytest.fixture
def write_tests(tmp_path):
    """Write tests of the pushed rules with the expectations under the name that a tool knows; return their files."""

    def write(expectations):
        documents = {f"rules/{group}": rule_file for group, rule_file in rules.rule_files(pushed=True).items()}
        for name, document in rule_tests().items():
            documents[f"tests/{name}"] = document
            for test in document["tests"]:
                test["input_series"] = pushed_series(test["input_series"])
                test[expectations] = test.pop("promql_expr_test")
        for name, document in documents.items():
            path = tmp_path / f"{name}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(rules.dump_yaml(document))
        return sorted((tmp_path / "tests").iterdir())

    return write


def run(*command, cwd):
    variables = os.environ | {"GOGC": "400"}
    command = [*map(str, command)]
    done = subprocess.run(command, cwd=cwd, env=variables, check=False, capture_output=True, text=True, timeout=900)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


@pytest.mark.long
@pytest.mark.usefixtures("servers")
def test_pushed_alerts_fire_on_faults_and_only_then_in_victoriametrics(write_tests):
    """In a VictoriaMetrics that vmalert-tool starts. The test of Prometheus is the short form."""
    files = write_tests("metricsql_expr_test")
    with TOOL_LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        output = run(find_binary("vmalert-tool"), "unittest", f"--files={files[0].parent}/*.yaml", cwd=files[0].parent)
    assert output.count("SUCCESS") == len(files), output
    assert "FAILED" not in output


def test_pushed_alerts_fire_on_faults_and_only_then_in_prometheus(promtool, write_tests):
    """In a Prometheus that takes OTLP."""
    files = write_tests("promql_expr_test")
    output = run(promtool, "test", "rules", *files, cwd=files[0].parent)
    assert output.count("SUCCESS") == len(files), output


@pytest.mark.usefixtures("servers")
def test_vmalert_accepts_the_file_with_its_templates(tmp_path):
    (tmp_path / "rules.yaml").write_text(rules.pushed_rules())
    run(find_binary("vmalert"), "-dryRun", "-rule=rules.yaml", cwd=tmp_path)


def test_pushed_rules_are_the_same_without_up():
    """Each alert is there with its name, its wait and its labels, and none reads a series that only a scrape makes."""
    groups = yaml.safe_load(rules.pushed_rules())["groups"]
    pushed = {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}
    assert pushed.keys() == {alert.name for alert in ALERTS}
    assert not [rule["expr"] for group in groups for rule in group["rules"] if re.search(r"\bup\b", rule["expr"])]
    differing = set()
    for document in rules.rule_files().values():
        for rule in document["groups"][0]["rules"]:
            if "alert" in rule:
                other = pushed[rule["alert"]]
                assert (rule.get("for"), rule["labels"]) == (other.get("for"), other["labels"])
                if rule["expr"] != other["expr"]:
                    differing.add(rule["alert"])
                    assert rule["annotations"]["description"] != other["annotations"]["description"]
    assert differing == {"SupportServiceDown", "SupportReplicaDown", "SupportMetricsMissing"}
