"""The `support-service probe` command."""

import argparse
import sys
from collections.abc import Mapping

from support_service.commands.event_loop import run
from support_service.probe.check import Check
from support_service.probe.run import again_and_again, once
from support_service.settings import Client


def probe(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Check a running service once, or at an interval."""
    headers = Client.of(environ).headers | dict(arguments.header)
    check = Check(arguments.base_url, headers, arguments.threshold, arguments.event_threshold)
    if arguments.interval is None:
        sys.exit(run(once(check)))
    run(again_and_again(check, arguments.interval, arguments.listen))
