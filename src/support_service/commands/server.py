"""The `support-service serve` command."""

import argparse
import logging
from collections.abc import Mapping

from support_service.commands.base import MIGRATIONS_MISSING_MESSAGE, NEWER_DATABASE_MESSAGE
from support_service.commands.event_loop import run
from support_service.database import migrate
from support_service.server import serve as run_server
from support_service.settings import Settings, WrongSetting
from support_service.telemetry import logs

log = logging.getLogger(__name__)


def serve(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Serve the API. A SQLite database is migrated first; raises WrongSetting if another one lacks migrations."""
    settings = Settings.to_serve(environ)
    logs.configure(settings.server.log_level)
    url = settings.database.url
    standing = migrate.upgrade(url) if url.startswith("sqlite:") else migrate.schema_status(url)
    if standing == "older":
        raise WrongSetting(MIGRATIONS_MISSING_MESSAGE)
    if standing == "newer":
        log.warning("%s; it works with what it knows of it", NEWER_DATABASE_MESSAGE)
    run(run_server(settings))
