"""Each panel of the committed dashboards has what on-call needs."""

import json
import re
from dataclasses import replace

import pytest
from grafana import build
from grafana.panel import Panel
from grafana.rows import BOARDS, ROWS, build_row
from observability.error_budget import BURN_FAST
from observability.signal import Alert, Signal, runbook_of
from observability.signals import ALERTS

from support_service.api.panel_links import LINKS_BY_CARD, ON_CALL_DASHBOARD, panel_id
from tests.support.each import each
from tests.support.promql import ROOT, known_series, queried_series

DASHBOARDS = {board.uid: json.loads((build.DASHBOARDS_FOLDER / f"{board.uid}.json").read_text()) for board in BOARDS}
EVERYTHING = [panel for dashboard in DASHBOARDS.values() for panel in dashboard["panels"]]
PANELS = [panel for panel in EVERYTHING if panel["type"] != "row"]
TABLES = [panel for row in ROWS for panel in row.panels]
FIRST = (
    "Support timeline p95 latency",
    "Support attachment backlog",
    "Support timeline cache events",
    "Support timeline failure stages",
)
# Recording rules and counts over all replicas, which have no label `instance`, and the probe, which is no replica.
OF_NO_REPLICA = re.compile(
    r"\b(?:support|source|service):[\w:]+|support_probe_\w+\{[^}]*\}"
    r"|(?:count\(|on \(\) )(?:up|last_over_time\(\w+)\{[^}]*\}"
)


def test_first_four_panels_have_the_required_titles():
    """These four panels are visible without scrolling."""
    first = [panel for panel in DASHBOARDS[ON_CALL_DASHBOARD]["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in first[:4]] == list(FIRST)


def test_panel_titles_and_ids_are_unique():
    """Alerts refer to panels by title, and links by id."""
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    assert len({panel["id"] for panel in EVERYTHING}) == len(EVERYTHING)
    assert all(0 < panel["id"] < 2**31 for panel in EVERYTHING)


def test_panel_keeps_its_id_when_it_is_moved():
    """The id follows from the title alone, so that links of alerts, pages and messages stay valid."""
    assert {panel["title"]: panel["id"] for panel in PANELS} == {panel.title: panel_id(panel.title) for panel in TABLES}
    assert panel_id("Support probe") == 913786505


@each(card=LINKS_BY_CARD)
def test_links_of_on_call_lead_to_panels_and_runbooks(card):
    """Each card of `GET /support/oncall` names a panel of its dashboard, and a page."""
    link = LINKS_BY_CARD[card]
    assert link.panel in {panel["title"] for panel in DASHBOARDS[link.dashboard]["panels"]}
    assert (ROOT / "runbooks" / link.runbook).is_file()


@each(dashboard=DASHBOARDS.values())
def test_dashboard_has_a_data_source_a_job_and_replicas_to_choose(dashboard):
    """The variables are the same on each, so that a link to another dashboard keeps what is chosen."""
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "instance", "runbooks"]
    for name in ("job", "instance"):
        assert variables[name]["multi"]
        assert variables[name]["allValue"] == ".*"
        assert variables[name]["datasource"]["uid"] == "${datasource}"
    assert len(dashboard["description"]) > 8
    (others,) = (link for link in dashboard["links"] if link["type"] == "dashboards")
    assert others["tags"] == dashboard["tags"]
    assert others["includeVars"]


@each(panel=PANELS)
def test_panel_shows_the_chosen_replicas(panel):
    """Each selector of a replica's series has the variables `job` and `instance`."""
    for target in panel["targets"]:
        rest = OF_NO_REPLICA.sub("", target["expr"])
        for name in queried_series(rest):
            selectors = re.findall(rf"{name}(?:_bucket|_count|_sum)?(?:\{{([^}}]*)\}})?", rest)
            assert selectors, name
            for selector in selectors:
                assert 'job=~"$job",instance=~"$instance"' in selector, target["expr"]


@each(dashboard=DASHBOARDS.values())
def test_panels_do_not_overlap(dashboard):
    """Each panel has its own cells in the grid of 24 columns."""
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@each(panel=PANELS)
def test_panel_has_description_unit_and_datasource(panel):
    """The datasource is the dashboard's variable."""
    assert len(panel["description"]) > 8
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        assert target["legendFormat"]


@each(panel=PANELS)
def test_panel_queries_use_existing_metrics(panel):
    """Each metric is in the table of instruments, or recorded by a rule."""
    for target in panel["targets"]:
        assert queried_series(target["expr"]) <= known_series()


@each(panel=PANELS)
def test_runbook_links_of_panels_exist(panel):
    """Each link leads to a file of runbooks/."""
    for link in panel.get("links", []):
        base, _, file = link["url"].partition("/")
        assert base == "${runbooks}"
        assert (ROOT / "runbooks" / file).is_file()


@each(panel=TABLES)
def test_gauges_shared_by_all_replicas_are_not_summed(panel: Panel):
    """Ten replicas that report one backlog must not show ten backlogs."""
    shared = (
        "support_attachment_backlog",
        "support_attachment_unrepaired",
        "support_attachment_disk_free",
        "support_ticket_open",
        "support_ticket_oldest_unanswered",
        "support_timeline_source_enabled",
        "support_events_outbox",
        "support_events_stream_lag",
        "support_events_dead_letters",
        "support_webhook_pending",
        "support_webhook_overdue",
        "support_audit_sealed",
        "support_audit_unsealed",
        "support_probe",
    )
    for query in panel.queries:
        if any(name.startswith(shared) for name in queried_series(query.expr)):
            assert "sum" not in query.expr
            assert "max" in query.expr or "min" in query.expr


def test_panel_thresholds_equal_the_alert_thresholds():
    """A line is a number that an alert of the panel compares with, or 0 or 1 for states. It is drawn as it is."""
    limits = {panel.title: panel.limit for panel in TABLES}
    compared = {alert.name: alert.limits for alert in ALERTS}
    for panel in TABLES:
        usual = {None, 0, 1} | ({BURN_FAST} if panel.row == "objectives" else set())
        assert panel.limit in usual.union(*(compared[name] for name in panel.alerts)), panel.title
    shown = {panel["title"]: panel["fieldConfig"]["defaults"]["thresholds"]["steps"] for panel in PANELS}
    for title, limit in limits.items():
        assert [step["value"] for step in shown[title]] == ([None] if limit is None else [None, limit])


def test_every_alert_is_named_by_its_panel():
    named = {(panel.title, name) for panel in TABLES for name in panel.alerts}
    assert [alert.name for alert in ALERTS if (alert.panel, alert.name) not in named] == []


def test_panel_without_its_alert_and_alert_without_its_panel_or_page_are_refused():
    """The generator stops, and names what is missing."""
    panel = Panel("A panel", "About it.", "events", 99, (), "s")
    texts = {"short": ("in short", "tóm tắt"), "summary": "A summary", "description": "A description"}
    alert = Alert(name="SupportNew", expr="up == 0", for_="1m", severity="warning", stated=("1m",), **texts)
    with pytest.raises(ValueError, match=r"no alert watches the panels \['A panel'\]"):
        Signal(group="events", alerts=(), panels=(panel,))
    with pytest.raises(ValueError, match="SupportNew has no panel"):
        Signal(group="events", alerts=(alert,))
    with pytest.raises(ValueError, match="SupportNew does not say what its runbook states"):
        Signal(group="events", alerts=(replace(alert, stated=()),), panels=(panel,))
    signal = Signal(group="events", alerts=(alert,), panels=(panel,))
    assert (signal.alerts[0].panel, signal.panels[0].alerts) == ("A panel", ("SupportNew",))
    with pytest.raises(ValueError, match="A panel has a limit"):
        build_row("events", "Events", [], [replace(panel, limit=1)])


@each(dashboard=DASHBOARDS.values())
def test_deployments_and_alerts_are_annotated(dashboard):
    """A new version and a firing alert are annotations on every panel."""
    marks = {mark["name"]: mark["expr"] for mark in dashboard["annotations"]["list"]}
    assert marks.keys() == {"Deployments", "Alerts"}
    assert queried_series(marks["Deployments"]) == {"support_build_info"}
    assert '(ALERTS{alertstate="firing",' in marks["Alerts"]


@pytest.mark.parametrize(
    ("alert", "file"),
    [
        ("SupportTimelineLatencyHigh", "support-timeline-latency-high.md"),
        ("SupportApiErrorBudgetBurnFast", "support-api-error-budget-burn-fast.md"),
        ("Watchdog", "watchdog.md"),
    ],
)
def test_runbook_file_is_named_after_its_alert(alert, file):
    """The name is in kebab case."""
    assert runbook_of(alert) == file
