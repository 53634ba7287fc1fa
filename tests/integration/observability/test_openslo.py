"""The objectives as OpenSLO: the form of version 1 of its specification, with the queries of the alerts."""

import subprocess

import pytest
import yaml
from observability import openslo
from observability.error_budget import BUDGET_PERIOD
from observability.rules import SIGNALS_BY_GROUP
from observability.signals import OBJECTIVES

NAME = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}
METADATA = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": NAME,
        "displayName": {"type": "string", "minLength": 1},
        "labels": {"type": "object", "additionalProperties": {"type": "string", "pattern": "^[a-zA-Z0-9._-]{1,63}$"}},
    },
    "additionalProperties": False,
}
SOURCE = {
    "type": "object",
    "required": ["metricSource"],
    "properties": {
        "metricSource": {
            "type": "object",
            "required": ["type", "spec"],
            "properties": {"type": {"const": "Prometheus"}, "spec": {"required": ["query"]}},
            "additionalProperties": False,
        }
    },
    "additionalProperties": False,
}
DESCRIPTION = {"type": "string", "maxLength": 1050}
INDICATOR = {
    "type": "object",
    "required": ["metadata", "spec"],
    "properties": {
        "metadata": METADATA,
        "spec": {
            "required": ["ratioMetric"],
            "properties": {
                "ratioMetric": {
                    "required": ["counter", "bad", "total"],
                    "properties": {"counter": {"type": "boolean"}, "bad": SOURCE, "total": SOURCE},
                    "additionalProperties": False,
                }
            },
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}
OBJECTIVE = {
    "type": "object",
    "required": ["target"],
    "properties": {"displayName": {"type": "string"}, "target": {"minimum": 0, "exclusiveMaximum": 1}},
    "additionalProperties": False,
}
SLO = {
    "type": "object",
    "required": ["service", "indicator", "budgetingMethod", "objectives"],
    "properties": {
        "description": DESCRIPTION,
        "service": NAME,
        "indicator": INDICATOR,
        "timeWindow": {
            "type": "array",
            "maxItems": 1,
            "items": {
                "required": ["duration", "isRolling"],
                "properties": {"duration": {"pattern": "^[1-9][0-9]*[mhdwMQY]$"}, "isRolling": {"const": True}},
                "additionalProperties": False,
            },
        },
        "budgetingMethod": {"enum": ["Occurrences", "Timeslices"]},
        "objectives": {"type": "array", "minItems": 1, "items": OBJECTIVE},
    },
    "additionalProperties": False,
}
SERVICE = {"type": "object", "properties": {"description": DESCRIPTION}, "additionalProperties": False}


def schema(spec):
    return {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {"apiVersion": {"const": "openslo/v1"}, "kind": {}, "metadata": METADATA, "spec": spec},
        "additionalProperties": False,
    }


@pytest.fixture(scope="module")
def documents():
    return list(yaml.safe_load_all(openslo.OPENSLO_FILE.read_text()))


def test_documents_have_the_form_of_the_specification(documents):
    from jsonschema import Draft202012Validator

    for document in documents:
        validator = Draft202012Validator(schema({"Service": SERVICE, "SLO": SLO}[document["kind"]]))
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
