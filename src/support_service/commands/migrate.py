"""`support-service migrate`."""

import argparse
from collections.abc import Mapping

from support_service.commands.base import NEWER
from support_service.database.migrate import upgrade
from support_service.settings import Settings


def migrate(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Bring the database to the newest schema."""
    settings = Settings.load(environ)
    if upgrade(settings.database.url) == "newer":
        # No failure: where `migrate` runs before each start, as in Kubernetes, it would keep an older release from it.
        print(f"{NEWER}: nothing was changed.")
    else:
        print("The database has the newest schema.")
