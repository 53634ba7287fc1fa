"""The `support-service openapi` command."""

import argparse
import json
import sys
from collections.abc import Mapping

from support_service.api.openapi.document import document
from support_service.api.openapi.lint import gaps
from support_service.settings import Settings


def openapi(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print the OpenAPI document. With `--check`, exit with status 1 and list its gaps if it has any."""
    described = document(secured=Settings.load(environ).server.auth != "open")
    if not arguments.check:
        print(json.dumps(described, indent=2))
    elif lacks := gaps(described):
        sys.exit("\n".join(lacks))
