"""The catalogue of metrics, from the declared instruments, with the panels and alerts that use each."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from grafana.rows import ROWS

import support_service.app
import support_service.probe.run  # noqa: F401 - modules declare the instruments that they record
from observability.rules import rule_files
from support_service.platform.telemetry.instruments import InstrumentSpec, declared_instruments

ROOT = Path(__file__).parent.parent
METRICS_PAGE = ROOT / "observability" / "metrics.md"
METRICS_PAGE_HEAD = """\
# Metrics

Every instrument, written by `make observability` from the rows beside the code that records them. The heading is
the name in OpenTelemetry and OTLP, the name below it is the family on `/metrics`. Label values in `code` are complete.
values of *open* labels are the service's own routes, statuses and releases, never a client's input.
"""
PROBE_INSTRUMENTS = tuple(row for row in declared_instruments() if row.name.startswith("support.probe."))
INSTRUMENTS = tuple(row for row in declared_instruments() if row not in PROBE_INSTRUMENTS)
KIND_TEXTS = {
    "counter": "counter",
    "histogram": "histogram",
    "gauge": "gauge",
    "observed counter": "counter",
    "observed sum": "up-down counter",
}


def generated_files() -> dict[Path, str]:
    """Return the page."""
    return {METRICS_PAGE: metrics_page()}


def metrics_page() -> str:
    """Return the page for the declared instruments and their current uses."""
    uses = list(_uses_of_metrics())
    return METRICS_PAGE_HEAD + "".join(_instrument_section(row, uses) for row in (*INSTRUMENTS, *PROBE_INSTRUMENTS))


def _instrument_section(row: InstrumentSpec, uses: list[tuple[str, str, str]]) -> str:
    lines = [
        f"\n## {row.name}\n",
        f"`{row.prometheus_name}`, {KIND_TEXTS[row.kind]}, unit `{row.unit}`. {row.meaning}.\n",
    ]
    for name, values in row.labels.items():
        known = ", ".join(f"`{value}`" if value else "none" for value in values) if values is not None else "*open*"
        lines.append(f"- `{name.replace('.', '_')}`: {known}")
    if row.buckets:
        lines.append(f"- buckets: {', '.join(f'{edge:g}' for edge in row.buckets)}")
    pattern = re.compile(rf"\b{row.prometheus_name}(_bucket|_sum|_count)?\b")
    used_by = {
        kind: dict.fromkeys(title for of, title, text in uses if of == kind and pattern.search(text))
        for kind in ("panel", "alert")
    }
    used = [f"- {kind}s: {', '.join(f'*{title}*' for title in titles)}" for kind, titles in used_by.items() if titles]
    return "\n".join([*lines, *(used or ["- no panel and no alert yet"]), ""])


def _uses_of_metrics() -> Iterator[tuple[str, str, str]]:
    """Yield (kind, title, text) of every panel and every alert."""
    for panel in (panel for row in ROWS for panel in row.panels):
        yield "panel", panel.title, " ".join(query.expr for query in panel.queries)
    for document in rule_files().values():
        for rule in document["groups"][0]["rules"]:
            if "alert" in rule:
                yield "alert", rule["alert"], json.dumps(rule)
