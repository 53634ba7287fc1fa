"""The parts of the service whose state on-call sees."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from support_service.api.panel_links import LINKS, panel_path
from support_service.attachments.backlog import AttachmentBacklog
from support_service.events.consumer import EventConsumer
from support_service.events.relay import OutboxRelay
from support_service.events.webhooks import WebhookSender
from support_service.platform.audit.log import Sealer
from support_service.platform.telemetry.process import LoopLagSampler
from support_service.timeline.aggregator import TimelineAggregator


@dataclass(frozen=True, slots=True)
class OnCallParts:
    """The parts, and the base URLs of runbooks and Grafana."""

    timeline: TimelineAggregator
    backlog: AttachmentBacklog
    relay: OutboxRelay
    consumer: EventConsumer
    webhooks: WebhookSender
    sealer: Sealer
    loop_lag: LoopLagSampler
    stale_after: timedelta  # since figures were read
    runbooks_url: str | None
    grafana_url: str | None

    def links(self, card: str) -> dict[str, Any]:
        """Return the addresses of a card's runbook and panel, None where no base URL is set."""
        link = LINKS[card]
        panel = panel_path(link.dashboard, link.panel)
        return {
            "runbook": f"{self.runbooks_url}/{link.runbook}" if self.runbooks_url else None,
            "panel": f"{self.grafana_url}{panel}" if self.grafana_url else None,
        }
