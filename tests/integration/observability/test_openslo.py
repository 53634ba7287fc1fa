"""The objectives as OpenSLO: the form of version 1 of its specification, with the queries of the alerts."""

import subprocess

import pytest
import yaml
from observability import openslo
from observability.error_budget import BUDGET_PERIOD
from observability.rules import SIGNALS_BY_GROUP
from observability.signals import OBJECTIVES


def form(*required, **properties):
    """The schema of an object of these properties."""
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


NAME = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}
DESCRIPTION = {"type": "string", "maxLength": 1050}
LABELS = {"type": "object", "additionalProperties": {"type": "string", "pattern": "^[a-zA-Z0-9._-]{1,63}$"}}
METADATA = form("name", name=NAME, displayName={"type": "string", "minLength": 1}, labels=LABELS)
PROMETHEUS = form("type", "spec", type={"const": "Prometheus"}, spec={"required": ["query"]})
SOURCE = form("metricSource", metricSource=PROMETHEUS)
RATIO = form("counter", "bad", "total", counter={"type": "boolean"}, bad=SOURCE, total=SOURCE)
INDICATOR = form("metadata", "spec", metadata=METADATA, spec=form("ratioMetric", ratioMetric=RATIO))
TARGET = {"minimum": 0, "exclusiveMaximum": 1}
OBJECTIVE = form("target", displayName={"type": "string"}, target=TARGET)
DURATION = {"pattern": "^[1-9][0-9]*[mhdwMQY]$"}
WINDOW = form("duration", "isRolling", duration=DURATION, isRolling={"const": True})
SLO = form(
    *("service", "indicator", "budgetingMethod", "objectives"),
    description=DESCRIPTION,
    service=NAME,
    indicator=INDICATOR,
    timeWindow={"type": "array", "maxItems": 1, "items": WINDOW},
    budgetingMethod={"enum": ["Occurrences", "Timeslices"]},
    objectives={"type": "array", "minItems": 1, "items": OBJECTIVE},
)
SERVICE = form(description=DESCRIPTION)


@pytest.fixture(scope="module")
def documents():
    return list(yaml.safe_load_all(openslo.OPENSLO_FILE.read_text()))


def test_documents_have_the_form_of_the_specification(documents):
    from jsonschema import Draft202012Validator

    for document in documents:
        head = {"apiVersion": {"const": "openslo/v1"}, "kind": {}, "metadata": METADATA}
        spec = {"Service": SERVICE, "SLO": SLO}[document["kind"]]
        validator = Draft202012Validator(form("apiVersion", "kind", "metadata", "spec", **head, spec=spec))
        assert [error.message for error in validator.iter_errors(document)] == [], document["metadata"]


def test_every_objective_that_alerts_watch_is_an_slo(documents):
    """With its share and its period, of a service that is in the file."""
    slos = [each for each in documents if each["kind"] == "SLO"]
    assert [each["spec"]["objectives"][0]["target"] for each in slos] == [each.share for each in OBJECTIVES]
    assert len(OBJECTIVES) == len(SIGNALS_BY_GROUP["objectives"])
    services = {each["metadata"]["name"] for each in documents if each["kind"] == "Service"}
    for each in slos:
        assert each["spec"]["service"] in services
        assert each["spec"]["timeWindow"] == [{"duration": BUDGET_PERIOD, "isRolling": True}]


def test_prometheus_accepts_the_queries(documents, promtool, tmp_path):
    queries = [
        each["spec"]["indicator"]["spec"]["ratioMetric"][part]["metricSource"]["spec"]["query"]
        for each in documents
        if each["kind"] == "SLO"
        for part in ("bad", "total")
    ]
    rules = [{"record": f"slo:query:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "slo", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(queries)} rules found" in done.stdout
    assert "WINDOW" not in path.read_text()
