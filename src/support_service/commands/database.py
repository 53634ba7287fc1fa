"""The `support-service migrate` command."""

import argparse
import sys
from collections.abc import Mapping

from support_service.commands.runtime.database import NEWER_DATABASE_MESSAGE
from support_service.platform.database.migrate import upgrade
from support_service.platform.settings import Settings


def migrate(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Migrate the database to the newest schema."""
    settings = Settings.load(environ)
    for line in settings.warnings:  # before the database is opened: one of them may be the reason why it is refused
        print(f"support-service: {line}", file=sys.stderr)
    if upgrade(settings.database.url) == "newer":
        # Exit with 0: in Kubernetes `migrate` runs before each start, and a failure would keep an older release from
        # starting.
        print(f"{NEWER_DATABASE_MESSAGE}: nothing was changed.")
    else:
        print("The database has the newest schema.")
