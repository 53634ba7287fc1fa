"""The state of the service for the engineer on call.

The figures come from the metrics in the process; no table is read. Only the database and the cache are
asked whether they answer, each within a timeout of its own, so that the answer arrives whatever is down.
"""

import asyncio
import os
import platform
import time
from typing import Any

from support_service import __version__
from support_service.api.models.oncall import OnCall
from support_service.api.oncall_actions import TAG
from support_service.api.panel_links import LINKS_BY_CARD, panel_path
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import get
from support_service.api.routing.route import Permission
from support_service.core.clock import utc_now
from support_service.core.part_state import OFF, OK, OncallCard
from support_service.core.problem_codes import PROBLEM_CODES_BY_NAME
from support_service.service import Service

PROBE_CARD = OncallCard(None, {}, "The probe runs in a process of its own; its metrics have its results.")
CACHE_SILENT_MESSAGE = "The Redis of the timeline cache does not answer."

ONCALL_READ = Permission("oncall:read", {"supervisor": "all", "service": "all"})


@get("/support/oncall", tag=TAG, access=ONCALL_READ)
async def get_oncall(call: Call) -> Reply[OnCall]:
    """Get the state of the service's parts.

    The answer is 200 also while the database, Redis or an upstream service is down: the card of that part says so.
    Cards with the scope `replica` are about the replica that answers.
    """
    service = call.service
    database, cache_answers = await asyncio.gather(
        _read_database_card(service), service.dependencies.is_cache_available()
    )
    cards = {
        "sources": service.timeline.card(),
        "cache": service.timeline.cache_card(None if cache_answers else CACHE_SILENT_MESSAGE),
        "database": database,
        "backlog": service.attachments.backlog.card(),
        "outbox": service.relay.card(),
        "stream": service.consumer.stream_card(),
        "dead_letters": service.consumer.dead_letters_card(),
        "webhooks": service.webhooks.card(),
        "probe": PROBE_CARD,
        "audit_sealer": service.sealer.card(),
        "event_loop": service.loop_lag.card(),
    }
    state = {"replica": f"{platform.node()}-{os.getpid()}", "version": __version__, "at": utc_now()}
    state |= {name: _shown_card(service, name, card) for name, card in cards.items()}
    return Reply(OnCall.model_validate(state, by_name=True, from_attributes=True))


async def _read_database_card(service: Service) -> OncallCard:
    started = time.perf_counter()
    status = await service.dependencies.database_status()
    seconds = round(time.perf_counter() - started, 6) if status == OK else None
    error = None if status == OK else PROBLEM_CODES_BY_NAME[status].meaning
    figures: dict[str, object] = {"answer_seconds": seconds, "standby": OFF, "standby_lag_seconds": None}
    if (standby := service.standby) is not None:
        figures |= {"standby": standby.status, "standby_lag_seconds": standby.lag}
    return OncallCard(utc_now(), figures, error, scope="replica")


def _shown_card(service: Service, name: str, card: OncallCard) -> dict[str, Any]:
    """Return a card with its status, and the addresses of its runbook and panel, None where no base URL is set."""
    error = card.error
    if error is None and card.as_of is None:
        error = "It was not read yet."
    is_stale = card.as_of is not None and utc_now() - card.as_of > service.timings.api.stale_after
    status = "unavailable" if error else "stale" if is_stale else OK
    links, link = service.settings.links, LINKS_BY_CARD[name]
    return {
        "status": "unknown" if card is PROBE_CARD else status,
        "error": error,
        "scope": card.scope,
        "as_of": card.as_of,
        "runbook": f"{links.runbooks_url}/{link.runbook}" if links.runbooks_url else None,
        "panel": f"{links.grafana_url}{panel_path(link.dashboard, link.panel)}" if links.grafana_url else None,
        **card.figures,
    }
