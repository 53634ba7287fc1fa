"""Starts the simulated upstream services, the service and the sample cases, and prints commands to try."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

from support_service import __version__
from support_service.app import build_app
from support_service.client import SupportClient
from support_service.core.clock import utc_now
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES, UpstreamService, url_variable
from support_service.core.errors import UserError
from support_service.demo.history import import_history, sample_history, sample_orders
from support_service.demo.samples import (
    ORIGINAL_SUBJECT,
    SAMPLE_ORDERS,
    STALE_CASE_SUBJECT,
    make_source_stale,
    open_samples,
)
from support_service.demo.services import FAILING, OrderPast, simulated_service
from support_service.platform.database import migrate
from support_service.platform.settings import ClientSettings, ServerSettings, Settings
from support_service.platform.telemetry import logs
from support_service.server import open_server, wait_for_stop_signal
from support_service.service import SERVICE

log = logging.getLogger(__name__)
DATA_DIRECTORY = Path("var/demo")


async def run(environ: Mapping[str, str], port: int | None) -> None:
    """Serve until Ctrl-C. Upstream services that the environment does not configure are simulated.

    Raises UserError if authentication is on and SUPPORT_TOKEN is missing.
    """
    stopped = asyncio.ensure_future(wait_for_stop_signal())
    defaults = {
        "SUPPORT_DATABASE_URL": f"sqlite:///{DATA_DIRECTORY}/support.db",
        "SUPPORT_ATTACHMENT_DIR": f"{DATA_DIRECTORY}/attachments",
        "SUPPORT_LOG_LEVEL": "warning",
        "SUPPORT_TIMELINE_CACHE_TTL": "1",  # so that the source that fails is soon seen as stale
        "SUPPORT_SHED_LAG": "0",  # a busy laptop still gets its sample cases
    }
    started = _first_start()
    documents = sample_history(started)
    orders = sample_orders(documents) | {order: OrderPast(started, reached) for order, reached in SAMPLE_ORDERS.items()}
    async with AsyncExitStack() as stack:
        on_free_port = ServerSettings.model_validate({"SUPPORT_PORT": 0})
        simulated = [service for service in UPSTREAM_SERVICES if not environ.get(url_variable(service))]
        for service in simulated:
            app = simulated_service(service, orders)
            defaults[url_variable(service)] = await stack.enter_async_context(open_server(app, on_free_port))
        chosen = {} if port is None else {"SUPPORT_PORT": str(port)}
        settings = Settings.load_to_serve(defaults | {name: value for name, value in environ.items() if value} | chosen)
        headers = ClientSettings.load(environ).headers
        if settings.server.auth != "open" and not headers:
            raise UserError(
                f"SUPPORT_AUTH={settings.server.auth!r} requires SUPPORT_TOKEN, with which the demo opens sample cases"
            )
        logs.configure_logging(settings.server.log_level)
        for line in settings.warnings:
            log.warning(line)
        await asyncio.to_thread(migrate.upgrade, settings.database.url)
        await import_history(settings, DATA_DIRECTORY, documents)
        app, guard = build_app(settings)
        address = await stack.enter_async_context(open_server(app, settings.server, guard=guard))
        async with SupportClient(address, headers=headers) as client:
            cases = await open_samples(client, app[SERVICE])
            case = next(case.id for case in cases if case.subject == ORIGINAL_SUBJECT)
            print(_welcome_text(address, case, len(cases), simulated), flush=True)
            await make_source_stale(client, cases)  # the service logs that the source failed
        await stopped
        print("\nStopping.", flush=True)


def _first_start() -> datetime:
    """Return when the demo was first started with its data: sample cases and orders keep their times."""
    path = DATA_DIRECTORY / "first-start"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(utc_now().isoformat())
    return datetime.fromisoformat(path.read_text())


def _welcome_text(address: str, case_id: str, cases: int, simulated: Sequence[UpstreamService]) -> str:
    case = f"{address}/support/cases/{case_id}"
    services = f"simulated {', '.join(simulated)} services and " if simulated else ""
    warnings = "".join(
        f"\nThe warning below is simulated: {service} answers for {', '.join(orders)} once only, so that "
        f"the case {STALE_CASE_SUBJECT!r} shows a stale source.\n"
        for service, orders in FAILING.items()
        if service in simulated
    )
    return f"""
support-service {__version__} is running, with {services}{cases} cases.

  Console    {address}/console/
  API        {address}/docs
  Cases      {address}/support/cases
  Timeline   {case}?includeTimeline=true
  Metrics    {address}/metrics

Try:

  curl -s '{case}?includeTimeline=true' | python3 -m json.tool
  curl -s '{case}/messages' -H 'Content-Type: application/json' -d '{{"authorType": "agent", "message": "On it."}}'
  curl -s {address}/metrics | grep ^support_

Press Ctrl-C to stop it. Its data is kept in {DATA_DIRECTORY}/.
{warnings}"""
