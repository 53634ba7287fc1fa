"""The objectives as OpenSLO, for platforms that reckon error budgets themselves."""

from pathlib import Path
from typing import Any

import yaml

from observability.error_budget import BUDGET_PERIOD, Objective
from observability.rules import GENERATED_HEADER, SERVICE, TEAM
from observability.signal import SYMPTOM_FOR
from observability.signals import OBJECTIVES

OPENSLO_FILE = Path(__file__).parent / "openslo.yaml"


def generated_files() -> dict[Path, str]:
    """Return the file of the service and its objectives."""
    documents = [_document("Service", SERVICE, "Support cases", {"description": "Support cases and their timelines."})]
    documents += map(_objective_document, OBJECTIVES)
    return {OPENSLO_FILE: GENERATED_HEADER + yaml.safe_dump_all(documents, sort_keys=False, width=10_000)}


def _objective_document(objective: Objective) -> dict[str, Any]:
    name = objective.key.replace("_", "-")

    def source(query: str) -> dict[str, Any]:
        query = query.replace("WINDOW", SYMPTOM_FOR)
        return {"metricSource": {"type": "Prometheus", "spec": {"query": query}}}

    indicator = {
        "metadata": {"name": f"{name}-bad"},
        # Both queries are rates: an increasing counter would start at 0 again with each replica.
        "spec": {"ratioMetric": {"counter": False, "bad": source(objective.bad), "total": source(objective.total)}},
    }
    return _document(
        "SLO",
        name,
        objective.title,
        {
            "description": f"At most {1 - objective.share:.1%} within {BUDGET_PERIOD}: {objective.what}.",
            "service": SERVICE,
            "indicator": indicator,
            "timeWindow": [{"duration": BUDGET_PERIOD, "isRolling": True}],
            "budgetingMethod": "Occurrences",
            "objectives": [{"displayName": objective.title, "target": objective.share}],
        },
    )


def _document(kind: str, name: str, title: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "displayName": title, "labels": {"team": TEAM}}
    return {"apiVersion": "openslo/v1", "kind": kind, "metadata": metadata, "spec": spec}
