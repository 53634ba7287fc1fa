"""The `support-service serve` command."""

import argparse
import logging
from collections.abc import Mapping

from support_service.commands.runtime.database import MIGRATIONS_MISSING_MESSAGE, NEWER_DATABASE_MESSAGE
from support_service.commands.runtime.event_loop import run
from support_service.platform.database import migrate
from support_service.platform.settings import Settings, WrongSetting
from support_service.platform.telemetry import logs
from support_service.server import serve as run_server

log = logging.getLogger(__name__)


def serve(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Serve the API. A SQLite database is migrated first; raises WrongSetting if another one lacks migrations."""
    settings = Settings.to_serve(environ)
    logs.configure(settings.server.log_level)
    for line in settings.warnings:  # before the database is opened: one of them may be the reason why it is refused
        log.warning(line)
    url = settings.database.url
    schema = migrate.upgrade(url) if url.startswith("sqlite:") else migrate.schema_status(url)
    if schema == "older":
        raise WrongSetting(MIGRATIONS_MISSING_MESSAGE)
    if schema == "newer":
        log.warning("%s; tables and columns that are unknown to this release are ignored", NEWER_DATABASE_MESSAGE)
    run(run_server(settings))
