"""The dashboards and their rows, and the panels that no alert watches."""

from collections.abc import Sequence
from dataclasses import replace

from observability.signal import WINDOW, Signal
from observability.signals import SIGNALS
from observability.signals.api_error_budget import REQUESTS, SHOWN_ROUTES

from grafana.panel import (
    Board,
    Panel,
    Query,
    Row,
    RowKey,
    highest_over_replicas,
    hourly_rate,
    lowest_over_replicas,
    quantile,
    query_for_each_replica,
    rate,
    ratio,
    selector,
    total_over_replicas,
)
from support_service.api.panel_links import AGENTS_DASHBOARD, CAPACITY_DASHBOARD, ON_CALL_DASHBOARD
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES

NEW_CASES_METRIC = "support_ticket_created_total"
DATABASE_OPERATION_METRIC = "db_client_operation_duration_seconds"
POOL_NAME_LABEL = "db_client_connection_pool_name"
SOURCE_CALLS_METRIC = "support_timeline_source_seconds"

# What on-call and agents look at and no alert watches: a panel of a signal is declared with it.
UNWATCHED_PANELS = (
    Panel(
        "Support connections",
        "Client connections by replica. On the right: refused and closed connections by reason. Normal: head and "
        "unread at 0, idle and share only near the limit.",
        row="access",
        place=50,
        queries=(
            Query(selector("support_connection_open"), "{{instance}}"),
            Query(rate("support_connection_cut_total", "reason"), "cut: {{reason}}", right="cps"),
        ),
        unit="short",
        width=12,
    ),
    Panel(
        "Support API requests",
        "Requests by route.",
        row="api",
        place=10,
        queries=(
            Query(
                rate(f"{REQUESTS}_count", "http_request_method, http_route", SHOWN_ROUTES) + " > 0",
                "{{http_request_method}} {{http_route}}",
            ),
        ),
        unit="reqps",
    ),
    Panel(
        "Support API latency",
        "Half, 95 and 99 of 100 requests take at most this long. Normal: p95 under 100 ms without uploads.",
        row="api",
        place=30,
        queries=tuple(
            Query(quantile(each, REQUESTS, where=SHOWN_ROUTES), f"p{each * 100:g}") for each in (0.5, 0.95, 0.99)
        ),
        unit="s",
    ),
    Panel(
        "Support API requests in work",
        "Requests in progress over all replicas.",
        row="api",
        place=50,
        queries=(Query(total_over_replicas("http_server_active_requests"), "in work"),),
        unit="short",
        width=12,
    ),
    Panel(
        "Support attachment offloaded bytes",
        "Moved bytes per second.",
        row="attachments",
        place=50,
        queries=(Query(rate("support_attachment_offloaded_bytes_total", "to", 'outcome="moved"'), "to {{to}}"),),
        unit="Bps",
    ),
    Panel(
        "Support attachment offload p95 duration",
        "95 of 100 files are copied, read back and switched within this time.",
        row="attachments",
        place=60,
        queries=(Query(quantile(0.95, "support_attachment_offload_seconds", "to", window="1h"), "to {{to}}"),),
        unit="s",
    ),
    Panel(
        "Support attachments stored",
        "Files per hour by the content type that the client declared.",
        row="attachments",
        place=70,
        queries=(Query(hourly_rate("support_attachment_stored_total", "content_type") + " > 0", "{{content_type}}"),),
        unit="suffix: /h",
        kind="stacked",
    ),
    Panel(
        "Support uploads in progress",
        "Uploads in progress over all replicas.",
        row="attachments",
        place=90,
        queries=(Query(total_over_replicas("support_attachment_uploads"), "uploads"),),
        unit="short",
    ),
    Panel(
        "Support attachment sweep and deletions",
        "Repairs by the hourly sweep, and deletions, per hour.",
        row="attachments",
        place=100,
        queries=(
            Query(hourly_rate("support_attachment_sweep_repairs_total", "kind"), "repaired: {{kind}}"),
            Query(hourly_rate("support_attachment_deleted_total", "reason"), "deleted: {{reason}}"),
        ),
        unit="suffix: /h",
        width=24,
    ),
    Panel(
        "Support tickets by channel",
        "New cases per hour. `synthetic` is the probe.",
        row="cases",
        place=20,
        queries=(Query(hourly_rate(NEW_CASES_METRIC, "channel"), "{{channel}}"),),
        unit="suffix: /h",
        kind="stacked",
        width=12,
    ),
    Panel(
        "Support conversation",
        "Messages per hour by type of author.",
        row="cases",
        place=30,
        queries=(Query(hourly_rate("support_conversation_added_total", "author_type"), "{{author_type}}"),),
        unit="suffix: /h",
        kind="stacked",
    ),
    Panel(
        "Support status changes",
        "Status changes per hour by new status.",
        row="cases",
        place=40,
        queries=(Query(hourly_rate("support_ticket_status_changed_total", "status"), "{{status}}"),),
        unit="suffix: /h",
    ),
    Panel(
        "Support open cases",
        "Open and pending cases in the database.",
        row="cases",
        place=50,
        queries=(Query(highest_over_replicas("support_ticket_open", "status, priority"), "{{status}} {{priority}}"),),
        unit="short",
        kind="stacked",
    ),
    Panel(
        "Support oldest unanswered customer",
        "Age of the oldest customer message without an agent's answer.",
        row="cases",
        place=60,
        queries=(Query(highest_over_replicas("support_ticket_oldest_unanswered_seconds"), "oldest"),),
        unit="s",
        width=12,
    ),
    Panel(
        "Support time to first response and to resolution",
        "Half of the cases of the last 6 h took at most this long.",
        row="cases",
        place=70,
        queries=(
            Query(quantile(0.5, "support_ticket_first_response_seconds", window="6h"), "first response"),
            Query(quantile(0.5, "support_ticket_resolution_seconds", window="6h"), "resolution"),
        ),
        unit="s",
        width=12,
    ),
    Panel(
        "Support events lag",
        "relay: p99 from a change to its event in the broker. delivery: p95 from the time of an inbound event, by "
        "the clock of its service, to its application to cases.",
        row="events",
        place=40,
        queries=(
            Query(quantile(0.99, "support_events_relay_lag_seconds", window="15m"), "relay p99"),
            Query(quantile(0.95, "support_events_delivery_lag_seconds", window="15m"), "delivery p95"),
        ),
        unit="s",
    ),
    Panel(
        "Support webhooks",
        "Attempts to deliver an event to a webhook. On the right: pending deliveries.",
        row="events",
        place=50,
        queries=(
            Query(rate("support_webhook_deliveries_total", "outcome"), "{{outcome}}"),
            Query(highest_over_replicas("support_webhook_pending"), "waiting", right="short"),
        ),
        unit="ops",
    ),
    Panel(
        "Support CPU",
        "Cores in use by replica. One event loop can use one core: near 1 it is saturated.",
        row="process",
        place=10,
        queries=query_for_each_replica(rate("process_cpu_time_seconds_total", "instance")),
        unit="short",
    ),
    Panel(
        "Support memory",
        "Resident memory by replica. Normal: flat after the first hour.",
        row="process",
        place=30,
        queries=query_for_each_replica(selector("process_memory_usage_bytes")),
        unit="bytes",
    ),
    Panel(
        "Support file descriptors",
        "Open files and connections by replica. Normal: flat. A steady rise is a leak.",
        row="process",
        place=40,
        queries=query_for_each_replica(selector("process_unix_file_descriptors")),
        unit="short",
    ),
    Panel(
        "Support threads",
        "Threads by replica.",
        row="process",
        place=50,
        queries=query_for_each_replica(selector("process_threads")),
        unit="short",
    ),
    Panel(
        "Support garbage collections",
        "Runs of Python's garbage collector over all replicas, by generation.",
        row="process",
        place=60,
        queries=(
            Query(
                rate("cpython_gc_collections_total", "cpython_gc_generation"), "generation {{cpython_gc_generation}}"
            ),
        ),
        unit="ops",
    ),
    Panel(
        "Support database and Redis p95",
        "95 of 100 operations take at most this long.",
        row="stores",
        place=10,
        queries=(
            Query(
                quantile(0.95, DATABASE_OPERATION_METRIC, "db_system_name, db_operation_name"),
                "{{db_system_name}} {{db_operation_name}}",
            ),
        ),
        unit="s",
    ),
    Panel(
        "Support database and Redis errors",
        "Share of operations that fail. Normal: 0.",
        row="stores",
        place=20,
        queries=(
            Query(
                ratio(
                    rate(f"{DATABASE_OPERATION_METRIC}_count", "db_system_name", 'error_type!=""'),
                    rate(f"{DATABASE_OPERATION_METRIC}_count", "db_system_name"),
                ),
                "{{db_system_name}}",
            ),
        ),
        unit="percentunit",
        top=1,
    ),
    Panel(
        "Support connection pools",
        "Share of each pool's connections in use, by replica. At 100 % requests wait for a connection.",
        row="stores",
        place=30,
        queries=(
            Query(
                ratio(
                    total_over_replicas(
                        "db_client_connections", f"instance, {POOL_NAME_LABEL}", 'db_client_connection_state="used"'
                    ),
                    total_over_replicas("db_client_connections", f"instance, {POOL_NAME_LABEL}"),
                ),
                f"{{{{instance}}}} {{{{{POOL_NAME_LABEL}}}}}",
            ),
        ),
        unit="percentunit",
        top=1,
    ),
    Panel(
        "Support used share of service levels",
        "Working time until a target was reached, as a share of the allowed time. Half of the clocks that ended in "
        "the last 6 h used at most this share. Above 1 they were late.",
        row="service levels",
        place=30,
        queries=(Query(quantile(0.5, "support_sla_used_share", "target", window="6h"), "{{target}}"),),
        unit="percentunit",
        width=12,
    ),
    Panel(
        "Support oldest overdue case",
        "Time since the longest overdue clock of each target was due. It includes nights and holidays.",
        row="service levels",
        place=40,
        queries=(Query(highest_over_replicas("support_sla_oldest_overdue_seconds", "target"), "{{target}}"),),
        unit="s",
        width=12,
    ),
    Panel(
        "Support timeline completeness",
        "Reads by completeness: complete, stale (an older answer replaces a failed service), partial (no answer of "
        "a service). Normal: all complete.",
        row="reads",
        place=20,
        queries=(Query(rate("support_timeline_read_seconds_count", "completeness"), "{{completeness}}"),),
        unit="reqps",
        kind="stacked",
    ),
    Panel(
        "Support timeline source p95 latency",
        "95 of 100 answered calls to a service take at most this long.",
        row="sources",
        place=20,
        queries=(
            Query(quantile(0.95, SOURCE_CALLS_METRIC, "service", 'outcome=~"ok|not_found"', WINDOW), "{{service}}"),
        ),
        unit="s",
    ),
    Panel(
        "Support timeline source calls",
        "Calls by service and outcome. not_found: unknown or rejected id. open: stopped by the breaker. "
        "invalid: violates the contract.",
        row="sources",
        place=30,
        queries=(Query(f"{rate(f'{SOURCE_CALLS_METRIC}_count', 'service, outcome')} > 0", "{{service}} {{outcome}}"),),
        unit="reqps",
    ),
    Panel(
        "Support timeline sources enabled",
        "Whether a service is called: 0 while an override switches it off, or if it is not configured "
        "(`support-service timeline status` shows overrides).",
        row="sources",
        place=50,
        queries=(Query(lowest_over_replicas("support_timeline_source_enabled", "service"), "{{service}}"),),
        unit="short",
        limit=1,
        low=True,
        kind="states",
        words={"0": "off", "1": "on"},
        width=12,
    ),
)


def build_row(
    key: RowKey, title: str, signals: Sequence[Signal] = SIGNALS, unwatched: Sequence[Panel] = UNWATCHED_PANELS
) -> Row:
    """Return a row with all panels that name its key. Raises ValueError for a panel with a limit and no alert.

    A panel has the alerts that it names, and the alerts that lead to it.
    """
    leading = {
        title: tuple(alert.name for signal in signals for alert in signal.alerts if alert.panel == title)
        for title in {panel.title for signal in signals for panel in signal.panels}
    }
    watched = [
        replace(panel, alerts=tuple(dict.fromkeys((*panel.alerts, *leading[panel.title]))))
        for signal in signals
        for panel in signal.panels
        if panel.row == key
    ]
    others = [panel for panel in unwatched if panel.row == key]
    for panel in others:
        if panel.alerts or (panel.limit is not None and panel.kind != "states"):
            raise ValueError(f"the panel {panel.title} has a limit, so it belongs to the signal of its alert")
    return Row(title, sorted(watched + others, key=lambda panel: (panel.place, panel.title)))


BOARDS = (
    Board(
        ON_CALL_DASHBOARD,
        "Support on-call",
        "Whether support-service works for agents, and if not, which part fails.",
        (
            build_row("first", "Support"),
            build_row("objectives", "Objectives and error budgets"),
            build_row("api", "API: rate, errors, duration"),
            build_row("probe", "Probe"),
            build_row("replicas", "Replicas"),
            build_row("dependencies", "Dependencies"),
            build_row("reads", "Timeline reads"),
            build_row("sources", f"Sources: {', '.join(UPSTREAM_SERVICES)}"),
            build_row("events", "Events"),
            build_row("access", "Access, limits, audit"),
        ),
    ),
    Board(
        AGENTS_DASHBOARD,
        "Support agents and service levels",
        "The work of agents: new and open cases, answers, service levels, and the pages that show changes.",
        (
            build_row("cases", "Traffic"),
            build_row("service levels", "Service levels"),
            build_row("stream", "Stream of changes"),
        ),
    ),
    Board(
        CAPACITY_DASHBOARD,
        "Support capacity",
        "What each replica, its stores and its files use, and how it grows.",
        (
            build_row("process", "Process: utilisation, saturation, errors"),
            build_row("stores", "Database, Redis, connections"),
            build_row("attachments", "Attachments and offload"),
        ),
    ),
)
ROWS = tuple(row for board in BOARDS for row in board.rows)
BOARD_UID_BY_PANEL = {panel.title: board.uid for board in BOARDS for row in board.rows for panel in row.panels}
