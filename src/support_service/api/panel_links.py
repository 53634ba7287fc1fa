"""Which runbook and which panel of Grafana show the part of each card of on-call."""

from typing import NamedTuple
from zlib import crc32

ON_CALL_DASHBOARD, AGENTS_DASHBOARD, CAPACITY_DASHBOARD = (
    "support-overview",
    "support-agents",
    "support-capacity",
)  # uids of the dashboards


class CardLink(NamedTuple):
    """The file of a runbook, and a panel by the uid of its dashboard and its title."""

    runbook: str
    dashboard: str
    panel: str


LINKS_BY_CARD: dict[str, CardLink] = {
    "sources": CardLink("support-timeline-source-down.md", ON_CALL_DASHBOARD, "Support timeline sources"),
    "cache": CardLink("support-timeline-cache-errors.md", ON_CALL_DASHBOARD, "Support timeline cache events"),
    "database": CardLink("support-database-failing.md", ON_CALL_DASHBOARD, "Support database errors"),
    "backlog": CardLink("support-attachment-backlog-high.md", ON_CALL_DASHBOARD, "Support attachment backlog"),
    "outbox": CardLink("support-outbox-stalled.md", ON_CALL_DASHBOARD, "Support events"),
    "stream": CardLink("support-events-consumer-stalled.md", ON_CALL_DASHBOARD, "Support events lag"),
    "dead_letters": CardLink("support-events-dead-lettered.md", ON_CALL_DASHBOARD, "Support events consumed"),
    "webhooks": CardLink("support-webhooks-failing.md", ON_CALL_DASHBOARD, "Support webhook deliveries"),
    "probe": CardLink("support-probe-failing.md", ON_CALL_DASHBOARD, "Support probe"),
    "audit_sealer": CardLink("support-audit-unsealed.md", ON_CALL_DASHBOARD, "Support audit log"),
    "event_loop": CardLink("support-event-loop-lag.md", CAPACITY_DASHBOARD, "Support event loop lag"),
}


def panel_id(title: str) -> int:
    """Return the id of a panel or a row, which follows from its title, so that links stay valid if it is moved."""
    return crc32(title.encode()) >> 1  # below 2 ** 31


def panel_path(dashboard: str, title: str) -> str:
    return f"/d/{dashboard}?viewPanel={panel_id(title)}"
