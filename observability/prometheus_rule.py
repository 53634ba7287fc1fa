"""Write the rules also as a PrometheusRule for the Prometheus operator; with --check, only report outdated files.

`python -m observability.prometheus_rule`, or `make rules`.
"""

import argparse
import sys
from pathlib import Path

import yaml

from observability.rules import HEAD, documents

FILE = Path(__file__).parent / "kubernetes" / "prometheusrule.yaml"


def main() -> int:
    """Write or check the file and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m observability.prometheus_rule", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is out of date")
    text = rendered()
    if not parser.parse_args().check:
        FILE.write_text(text)
        return 0
    if FILE.exists() and FILE.read_text() == text:
        return 0
    print("observability/kubernetes/prometheusrule.yaml is out of date: run `make rules`", file=sys.stderr)
    return 1


def rendered() -> str:
    """Return one PrometheusRule resource with every group."""
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "support-service", "labels": {"app": "support-service"}},
        "spec": {"groups": [group for document in documents().values() for group in document["groups"]]},
    }
    return HEAD + yaml.safe_dump(resource, sort_keys=False, width=10_000, allow_unicode=True)


if __name__ == "__main__":
    sys.exit(main())
