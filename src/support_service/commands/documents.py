"""The `support-service openapi` and `asyncapi` commands."""

import argparse
import json
import sys
from collections.abc import Mapping

from support_service.api.openapi import asyncapi as asyncapi_document
from support_service.api.openapi import document as openapi_document
from support_service.api.openapi.lint import find_gaps
from support_service.platform.settings import Settings


def openapi(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print the OpenAPI document. With `--check`, exit with status 1 and list its gaps if it has any."""
    server = Settings.load(environ).server
    document = openapi_document.document(secured=server.auth != "open", public_url=server.public_url or "")
    if not arguments.check:
        print(json.dumps(document, indent=2))
    elif found := find_gaps(document):
        sys.exit("\n".join(found))


def asyncapi(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print the AsyncAPI document."""
    events = Settings.load(environ).events
    print(json.dumps(asyncapi_document.document(events.stream, events.inbound_stream), indent=2))
