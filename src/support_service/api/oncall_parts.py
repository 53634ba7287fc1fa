"""The parts of the service whose state on-call sees, and the addresses of their runbooks and panels."""

from dataclasses import dataclass
from typing import Any

from support_service.attachments.backlog import AttachmentBacklog
from support_service.audit.sealer import Sealer
from support_service.events.consumer import EventConsumer
from support_service.events.relay import OutboxRelay
from support_service.events.webhooks import WebhookSender
from support_service.telemetry.process import LoopLagSampler
from support_service.timeline.aggregator import TimelineAggregator
from support_service.timeline.cache.base import SnapshotStore

DASHBOARD = "support-overview"
# Of each card: its runbook, and the number of its panel on the dashboard.
LINKS: dict[str, tuple[str, int]] = {
    "sources": ("support-timeline-source-down.md", 38),
    "cache": ("support-redis-failing.md", 4),
    "database": ("support-service-down.md", 88),
    "backlog": ("support-attachment-backlog-high.md", 3),
    "outbox": ("support-outbox-stalled.md", 61),
    "stream": ("support-events-consumer-stalled.md", 64),
    "dead_letters": ("support-events-dead-lettered.md", 63),
    "webhooks": ("support-outbox-stalled.md", 67),
    "probe": ("support-probe-failing.md", 92),
    "audit_sealer": ("support-audit-unsealed.md", 71),
    "event_loop": ("support-event-loop-lag.md", 82),
}


@dataclass(frozen=True, slots=True)
class OnCallParts:
    """The parts, and the base URLs of runbooks and Grafana."""

    timeline: TimelineAggregator
    cache: SnapshotStore
    backlog: AttachmentBacklog
    relay: OutboxRelay
    consumer: EventConsumer
    webhooks: WebhookSender
    sealer: Sealer
    loop_lag: LoopLagSampler
    runbooks_url: str | None
    grafana_url: str | None

    def links(self, card: str) -> dict[str, Any]:
        """Return the addresses of a card's runbook and panel, None where no base URL is set."""
        runbook, panel = LINKS[card]
        return {
            "runbook": f"{self.runbooks_url}/{runbook}" if self.runbooks_url else None,
            "panel": f"{self.grafana_url}/d/{DASHBOARD}?viewPanel={panel}" if self.grafana_url else None,
        }
