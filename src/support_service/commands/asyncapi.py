"""The `support-service asyncapi` command."""

import argparse
import json
from collections.abc import Mapping

from support_service.api.openapi.asyncapi import document
from support_service.settings import Settings


def asyncapi(_: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print the AsyncAPI document."""
    events = Settings.load(environ).events
    print(json.dumps(document(events.stream, events.inbound_stream), indent=2))
