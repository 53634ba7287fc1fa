"""The rules as a PrometheusRule for the Prometheus operator."""

from pathlib import Path

import yaml

from observability.rules import HEAD, documents

FILE = Path(__file__).parent / "kubernetes" / "prometheusrule.yaml"


def files() -> dict[Path, str]:
    """Return the file."""
    return {FILE: rendered()}


def rendered() -> str:
    """Return one PrometheusRule resource with every group."""
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "support-service", "labels": {"app": "support-service"}},
        "spec": {"groups": [group for document in documents().values() for group in document["groups"]]},
    }
    return HEAD + yaml.safe_dump(resource, sort_keys=False, width=10_000, allow_unicode=True)
