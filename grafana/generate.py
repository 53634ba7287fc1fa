"""Write the dashboard's JSON from the tables of panels; with --check, only report if it is outdated.

`python -m grafana.generate`, or `make dashboards`.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.access import ACCESS
from grafana.api import API, OBJECTIVES
from grafana.attachments import ATTACHMENTS
from grafana.build import ANNOTATIONS, overview
from grafana.cases import TRAFFIC
from grafana.dependencies import DEPENDENCIES
from grafana.events import EVENTS, SYNTHETIC
from grafana.process import PROCESS
from grafana.replicas import REPLICAS
from grafana.service_levels import SERVICE_LEVELS
from grafana.timeline import FIRST, READING, SOURCES

ROOT = Path(__file__).parent.parent
IN_CONTROLS_MENU = "inControlsMenu"
UID = "support-overview"
FILE = ROOT / "grafana" / "dashboards" / f"{UID}.json"
PROMETHEUS = ROOT / "observability" / "prometheus" / "prometheus.yml"
ROWS = (
    FIRST,
    READING,
    TRAFFIC,
    SERVICE_LEVELS,
    OBJECTIVES,
    API,
    SOURCES,
    DEPENDENCIES,
    ATTACHMENTS,
    EVENTS,
    ACCESS,
    REPLICAS,
    PROCESS,
    SYNTHETIC,
)


def main() -> int:
    """Write or check the file and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m grafana.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is out of date")
    text = rendered()
    if not parser.parse_args().check:
        FILE.write_text(text)
        return 0
    if FILE.exists() and FILE.read_text() == text:
        return 0
    print(f"{FILE.relative_to(ROOT)} is out of date: run `make dashboards`", file=sys.stderr)
    return 1


def rendered() -> str:
    """Return the file's text for the current tables."""
    board = overview("Support overview", UID, ROWS, _runbooks())
    # Links are shown on the dashboard, and not in a menu of its controls, which is what the SDK sets.
    document: dict[str, Any] = json.loads(
        json.dumps(board, cls=JSONEncoder),
        object_hook=lambda each: {key: value for key, value in each.items() if value != IN_CONTROLS_MENU},
    )
    # Fields that Grafana reads and the SDK's types lack.
    for annotation, (*_, words) in zip(document["annotations"]["list"], ANNOTATIONS, strict=True):
        annotation["titleFormat"] = words
    document["templating"]["list"][0]["current"] = {"selected": True, "text": "Prometheus", "value": "prometheus"}
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _runbooks() -> str:
    """Return the address of the runbooks from prometheus.yml, which the alerts use too.

    Raises ValueError if the file has none.
    """
    found = re.search(r"^ +runbooks: (\S+)$", PROMETHEUS.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{PROMETHEUS} has no external label `runbooks`")
    return found[1]


if __name__ == "__main__":
    sys.exit(main())
