"""The dashboards and their JSON, from the tables of panels."""

import json
import re
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.access import ACCESS
from grafana.api import API, OBJECTIVES
from grafana.attachments import ATTACHMENTS
from grafana.build import ANNOTATIONS, Board, build
from grafana.cases import TRAFFIC
from grafana.dependencies import DEPENDENCIES
from grafana.events import EVENTS, STREAM, SYNTHETIC
from grafana.process import PROCESS, STORES
from grafana.replicas import REPLICAS
from grafana.service_levels import SERVICE_LEVELS
from grafana.timeline import FIRST, READING, SOURCES
from support_service.api.panel_links import AGENTS, CAPACITY, ON_CALL

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "grafana" / "dashboards"
PROMETHEUS = ROOT / "observability" / "prometheus" / "prometheus.yml"
BOARDS = (
    Board(
        ON_CALL,
        "Support on-call",
        "Whether support-service works for agents, and if not, which part fails.",
        (FIRST, OBJECTIVES, API, SYNTHETIC, REPLICAS, DEPENDENCIES, READING, SOURCES, EVENTS, ACCESS),
    ),
    Board(
        AGENTS,
        "Support agents and service levels",
        "The work of agents: new and open cases, answers, service levels, and the pages that show changes.",
        (TRAFFIC, SERVICE_LEVELS, STREAM),
    ),
    Board(
        CAPACITY,
        "Support capacity",
        "What each replica, its stores and its files use, and how it grows.",
        (PROCESS, STORES, ATTACHMENTS),
    ),
)
ROWS = tuple(row for board in BOARDS for row in board.rows)
PLACES = {panel.title: board.uid for board in BOARDS for row in board.rows for panel in row.panels}
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
