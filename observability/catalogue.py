"""Write observability/metrics.md from the table of instruments; with --check, only report if it is outdated.

Panels and alerts are found by the metric's Prometheus name, in grafana/ and observability/prometheus/.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support_service.telemetry.instruments import INSTRUMENTS, PROBE_INSTRUMENTS, InstrumentSpec

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "observability" / "metrics.md"
HEAD = """\
# Metrics

Every instrument, written by `make catalogue` from the table in `telemetry/instruments/`. The heading is the
name in OpenTelemetry and OTLP, the name below it is the family on `/metrics`. Label values in `code` are complete;
values of *open* labels are the service's own routes, statuses and releases, never a client's input.
"""
KINDS = {
    "counter": "counter",
    "histogram": "histogram",
    "gauge": "gauge",
    "observed counter": "counter",
    "observed sum": "up-down counter",
}


def main() -> int:
    """Write or check the page and return the exit status."""
    parser = argparse.ArgumentParser(prog="observability/catalogue.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of date")
    page = catalogue()
    if not parser.parse_args().check:
        PAGE.write_text(page)
        return 0
    if PAGE.exists() and PAGE.read_text() == page:
        return 0
    print("observability/metrics.md is out of date: run `make catalogue`", file=sys.stderr)
    return 1


def catalogue() -> str:
    """Return the page for the current table of instruments and their current uses."""
    uses = list(_uses())
    return HEAD + "".join(_section(row, uses) for row in (*INSTRUMENTS, *PROBE_INSTRUMENTS))


def _section(row: InstrumentSpec, uses: list[tuple[str, str]]) -> str:
    lines = [
        f"\n## {row.name}\n",
        f"`{row.prometheus}`, {KINDS[row.kind]}, unit `{row.unit}`. {row.meaning}.\n",
    ]
    for name, values in row.labels.items():
        known = ", ".join(f"`{value}`" if value else "none" for value in values) if values is not None else "*open*"
        lines.append(f"- `{name.replace('.', '_')}`: {known}")
    if row.buckets:
        lines.append(f"- buckets: {', '.join(f'{edge:g}' for edge in row.buckets)}")
    pattern = re.compile(rf"\b{row.prometheus}(_bucket|_sum|_count)?\b")
    used = [title for title, query in uses if pattern.search(query)]
    lines.append(f"- used by: {', '.join(dict.fromkeys(used)) or 'nothing yet'}\n")
    return "\n".join(lines)


def _uses() -> Iterator[tuple[str, str]]:
    """Yield (title, text) of every panel and every alert."""
    for dashboard in sorted((ROOT / "grafana").rglob("*.json")):
        for panel in _panels(json.loads(dashboard.read_text())):
            yield f"panel *{panel.get('title')}*", json.dumps(panel)
    for rules in sorted((ROOT / "observability" / "prometheus").rglob("*.y*ml")):
        for block in re.split(r"\n\s*- alert: ", rules.read_text())[1:]:
            name, _, text = block.partition("\n")
            yield f"alert *{name.strip()}*", text


def _panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard.get("panels", []):
        yield panel
        yield from _panels(panel)


if __name__ == "__main__":
    sys.exit(main())
