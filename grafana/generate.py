"""The dashboards and their JSON, from the tables of panels."""

import json
import re
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.build import ANNOTATIONS, build
from grafana.panel import Board
from grafana.rows import BOARDS

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "grafana" / "dashboards"
PROMETHEUS = ROOT / "observability" / "prometheus" / "prometheus.yml"
IN_CONTROLS_MENU = "inControlsMenu"


def files() -> dict[Path, str]:
    """Return the file of each dashboard."""
    return {FOLDER / f"{board.uid}.json": rendered(board) for board in BOARDS}


def rendered(board: Board) -> str:
    """Return a file's text for the current tables."""
    # Links are shown on the dashboard, and not in a menu of its controls, which is what the SDK sets.
    document: dict[str, Any] = json.loads(
        json.dumps(build(board, _runbooks()), cls=JSONEncoder),
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
