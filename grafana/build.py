"""The dashboards and their JSON: Grafana's model, built from the rows of panels with the Grafana Foundation SDK."""

import json
import re
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model
from observability.signal import runbook_of

from grafana.panel import Board, Panel, Query
from grafana.rows import BOARDS
from support_service.api.panel_links import panel_id

ROOT = Path(__file__).parent.parent
DASHBOARDS_FOLDER = ROOT / "grafana" / "dashboards"
PROMETHEUS_CONFIGURATION = ROOT / "observability" / "prometheus" / "prometheus.yml"
IN_CONTROLS_MENU = "inControlsMenu"
DATA_SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
DASHBOARD_TAG = "support-service"
PANEL_HEIGHT = 8  # grid units
TALLEST = 24  # grid units; the width of a row
GOOD_COLOR, BAD_COLOR = "green", "red"
# Name, query, colour and text of each annotation.
ANNOTATIONS = (
    (
        "Deployments",
        "count by (version) (support_build_info) unless count by (version) (support_build_info offset 2m)",
        "blue",
        "{{version}} runs",
    ),
    (
        "Alerts",
        'max by (alertname, severity) (ALERTS{alertstate="firing",service="support-service",severity!="none"})',
        "red",
        "{{alertname}} ({{severity}})",
    ),
)
PanelBuilder = timeseries.Panel | stat.Panel | statetimeline.Panel


def generated_files() -> dict[Path, str]:
    """Return the file of each dashboard."""
    return {DASHBOARDS_FOLDER / f"{board.uid}.json": render_board(board) for board in BOARDS}


def render_board(board: Board) -> str:
    """Return a file's text for the current tables."""
    # Links are shown on the dashboard, and not in a menu of its controls, which is what the SDK sets.
    document: dict[str, Any] = json.loads(
        json.dumps(build_dashboard(board, _read_runbooks_url()), cls=JSONEncoder),
        object_hook=lambda each: {key: value for key, value in each.items() if value != IN_CONTROLS_MENU},
    )
    # Fields that Grafana reads and the SDK's types lack.
    for annotation, (*_, words) in zip(document["annotations"]["list"], ANNOTATIONS, strict=True):
        annotation["titleFormat"] = words
    document["templating"]["list"][0]["current"] = {"selected": True, "text": "Prometheus", "value": "prometheus"}
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def build_dashboard(board: Board, runbooks: str) -> model.Dashboard:
    """Return a dashboard. `runbooks` is the address of the runbooks, kept in a variable so that it can be changed."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags([DASHBOARD_TAG])
        .timezone("browser")
        .readonly()
        .refresh("30s")
        .time("now-6h", "now")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_label_variable("job", "Job", "label_values(support_build_info, job)"))
        .with_variable(
            _label_variable("instance", "Replica", 'label_values(support_build_info{job=~"$job"}, instance)')
        )
        .with_variable(dashboard.ConstantVariable("runbooks").value(runbooks))
        .annotations([_annotation_query(*each) for each in ANNOTATIONS])
        .link(_runbook_link("Runbooks", "README.md"))
        .link(_link_to_other_dashboards())
    )
    top = 0
    for row in board.rows:
        built.with_row(
            dashboard.Row(row.title).id(panel_id(row.title)).grid_pos(model.GridPos(h=1, w=TALLEST, x=0, y=top))
        )
        top += 1
        left = 0
        for panel in row.panels:
            if left + panel.width > TALLEST:
                left, top = 0, top + PANEL_HEIGHT
            place = model.GridPos(h=PANEL_HEIGHT, w=panel.width, x=left, y=top)
            built.with_panel(_build_panel(panel).id(panel_id(panel.title)).grid_pos(place))
            left += panel.width
        top += PANEL_HEIGHT
    return built.build()


def _label_variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """Return a variable with the values of a label. All of them also match series that lack the label."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(DATA_SOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(model.VariableOption(text="All", value="$__all", selected=True))
    )


def _link_to_other_dashboards() -> dashboard.DashboardLink:
    """Return the links to the other dashboards, which keep the chosen variables and times."""
    return (
        dashboard.DashboardLink("Dashboards")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([DASHBOARD_TAG])
        .keep_time(keep_time=True)
        .include_vars(include_vars=True)
    )


def _build_panel(panel: Panel) -> PanelBuilder:
    builder = _builder_of_kind(panel)
    builder.title(panel.title).description(panel.about).datasource(DATA_SOURCE).unit(panel.unit).thresholds(
        _limit_thresholds(panel)
    )
    for number, query in enumerate(panel.queries):
        builder.with_target(_query_target(query, chr(ord("A") + number), instant=panel.kind == "number"))
    runbooks = [(alert, runbook_of(alert)) for alert in panel.alerts]
    runbooks += [("Timeline slow or backlog growing", panel.runbook)] if panel.runbook else []
    if runbooks:
        builder.links([_runbook_link(f"Runbook: {title}", file) for title, file in runbooks])
    if panel.kind != "number":
        builder.min(0)
    if panel.top is not None:
        builder.max(panel.top)
    if panel.words:
        words = {value: model.ValueMappingResult(text=word) for value, word in panel.words.items()}
        builder.mappings([model.ValueMap(options=words)])
    return builder


def _builder_of_kind(panel: Panel) -> PanelBuilder:
    if panel.kind == "number":
        return stat.Panel().color_mode(looks.BigValueColorMode.VALUE).graph_mode(looks.BigValueGraphMode.NONE)
    if panel.kind == "states":
        color = dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS)
        return statetimeline.Panel().color_scheme(color).show_value(looks.VisibilityMode.AUTO)
    lines = (
        timeseries.Panel()
        .line_width(2 if panel.kind == "lines" else 1)
        .fill_opacity(5 if panel.kind == "lines" else 40)
        .show_points(looks.VisibilityMode.NEVER)
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
        .legend(
            common.VizLegendOptions()
            .display_mode(looks.LegendDisplayMode.LIST)
            .placement(looks.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
    )
    if panel.kind == "stacked":
        lines.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL).group("A"))
    if panel.limit is not None:
        style = common.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.DASHED)
        lines.thresholds_style(style)
    for number, query in enumerate(panel.queries):
        looks_of = []
        if query.right:
            looks_of += [
                model.DynamicConfigValue(id_val="custom.axisPlacement", value="right"),
                model.DynamicConfigValue(id_val="unit", value=query.right),
            ]
        if query.dashed:
            looks_of.append(model.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 8]}))
        if looks_of:
            lines.override_by_query(chr(ord("A") + number), looks_of)
    return lines


def _limit_thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    steps = [model.Threshold(value=None, color=GOOD_COLOR)]
    if panel.limit is not None:
        below, above = (BAD_COLOR, GOOD_COLOR) if panel.low else (GOOD_COLOR, BAD_COLOR)
        steps = [model.Threshold(value=None, color=below), model.Threshold(value=panel.limit, color=above)]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def _query_target(query: Query, ref: str, *, instant: bool) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(ref).datasource(DATA_SOURCE)
    return target.instant() if instant else target.range()


def _runbook_link(title: str, file: str) -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink(title)
        .type(model.DashboardLinkType.LINK)
        .url(f"${{runbooks}}/{file}")
        .target_blank(target_blank=True)
    )


def _annotation_query(name: str, expr: str, color: str, _: str) -> dashboard.AnnotationQuery:
    return (
        dashboard.AnnotationQuery().name(name).datasource(DATA_SOURCE).enable(enable=True).icon_color(color).expr(expr)
    )


def _read_runbooks_url() -> str:
    """Return the address of the runbooks from prometheus.yml, which the alerts use too.

    Raises ValueError if the file has none.
    """
    found = re.search(r"^ +runbooks: (\S+)$", PROMETHEUS_CONFIGURATION.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{PROMETHEUS_CONFIGURATION} has no external label `runbooks`")
    return found[1]
