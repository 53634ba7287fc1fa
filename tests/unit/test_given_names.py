"""Names that the project was given: dashboards, rules, runbooks and callers elsewhere refer to them."""

import pytest
import yaml
from grafana.rows import ROWS
from observability.catalogue import INSTRUMENTS
from observability.signal import runbook_of
from observability.signals import ALERTS

from support_service.api.routes import ROUTES
from support_service.core.domain.case_vocabulary import KNOWN_CONTENT_TYPES
from tests.support.each import each_row
from tests.support.promql import ROOT

METRICS = {
    "support_timeline_collect_seconds": {"source": {"cache", "remote"}},
    "support_timeline_cache_events_total": {"event": {"hit", "miss", "write", "invalidate", "error"}},
    "support_timeline_collection_failures_total": {"stage": {"http", "cache", "cache_decode", "aggregate"}},
    "support_attachment_stored_total": {"content_type": {"text/plain", "other", *KNOWN_CONTENT_TYPES}},
    "support_attachment_backlog_bytes": {},
    "support_attachment_backlog_files": {},
    "support_ticket_created_total": {"channel": {"email", "chat", "phone", "other"}},
    "support_conversation_added_total": {"author_type": {"agent", "customer", "bot"}},
    "support_ticket_status_changed_total": {"status": {"open", "pending", "resolved", "closed"}},
}
OPEN = {"channel"}  # more values may be added
ALERTED = {
    "SupportTimelineLatencyHigh": 'support_timeline_collect_seconds:p95{source="remote"}',
    "SupportAttachmentBacklogHigh": "support_attachment_backlog_bytes",
    "SupportTimelineCacheErrors": 'support_timeline_cache_events_total{event=~"error"}',
}
PANELS = {
    "Support timeline p95 latency": "support_timeline_collect_seconds",
    "Support attachment backlog": "support_attachment_backlog_bytes",
    "Support timeline cache events": "support_timeline_cache_events_total",
    "Support timeline failure stages": "support_timeline_collection_failures_total",
}
CASE = "/support/cases/{case_id}"
CALLS = {
    *(("POST", path) for path in ("/support/cases", "/support/events")),
    *(("POST", f"{CASE}/{path}") for path in ("messages", "status", "close", "timeline/refresh", "attachments")),
    *(("PATCH", CASE), ("DELETE", f"{CASE}/attachments/{{attachment_id}}")),
    *(("GET", path) for path in ("/support/cases", CASE, f"{CASE}/attachments")),
    ("GET", f"{CASE}/attachments/{{attachment_id}}/{{filename}}"),
    ("GET", "/support/agents/{agent_id}/workload"),
    *(("GET", path) for path in ("/metrics", "/health", "/livez", "/readyz", "/openapi.json", "/docs")),
}
FOLDERS = {"benchmarks", "docs", "grafana", "observability", "runbooks", "src", "tests"}
SECTION = "Timeline support chậm hoặc backlog đính kèm tăng"


@each_row("metric", METRICS)
def test_metric_has_its_name_and_its_label_values(metric):
    (row,) = (each for each in INSTRUMENTS if each.prometheus_name == metric)
    assert row.labels.keys() == METRICS[metric].keys()
    for label, values in METRICS[metric].items():
        assert values <= {*row.labels[label]} if label in OPEN else values == {*row.labels[label]}


@pytest.mark.parametrize("name", ALERTED)
def test_alert_fires_on_its_metric_and_leads_to_its_runbook(name):
    (alert,) = (each for each in ALERTS if each.name == name)
    assert ALERTED[name] in alert.expr
    for folder in ("runbooks", "runbooks/vi"):
        assert (ROOT / folder / runbook_of(name)).read_text().startswith(f"# {name}\n")


@pytest.mark.parametrize("title", PANELS)
def test_panel_has_its_title_and_shows_its_metric(title):
    (panel,) = (panel for row in ROWS for panel in row.panels if panel.title == title)
    assert PANELS[title] in " ".join(query.expr for query in panel.queries)


def test_section_of_the_runbook_has_its_title():
    """The page where on-call starts names the three alerts, and the index leads to it by this title."""
    page = ROOT / "runbooks" / "vi" / "timeline-slow-or-attachment-backlog.md"
    assert page.read_text().startswith(f"# {SECTION}\n")
    assert f"[{SECTION}]({page.name})" in (page.parent / "README.md").read_text()
    assert [alert for alert in ALERTED if f"`{alert}`" not in page.read_text()] == []


def test_alerts_go_to_the_channel_of_the_data_team():
    config = yaml.safe_load((ROOT / "observability" / "alertmanager" / "alertmanager.yml").read_text())
    channels = {slack["channel"] for each in config["receivers"] for slack in each.get("slack_configs", ())}
    assert channels == {"#data-ops"}


def test_calls_have_their_methods_and_paths():
    assert CALLS - {(route.method, route.path) for route in ROUTES} == set()


def test_top_level_folders_have_their_names():
    assert [folder for folder in sorted(FOLDERS) if not (ROOT / folder).is_dir()] == []
