"""The `support-service probe` command."""

import argparse
import sys
from collections.abc import Mapping

from support_service.commands.runtime.event_loop import run
from support_service.probe.check import SyntheticCheck
from support_service.probe.run import run_every, run_once
from support_service.settings import ClientSettings


def probe(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Check a running service once, or at an interval."""
    headers = ClientSettings.of(environ).headers | dict(arguments.header)
    check = SyntheticCheck(
        arguments.base_url, headers, arguments.threshold, arguments.event_threshold, arguments.channel
    )
    if arguments.interval is None:
        sys.exit(run(run_once(check)))
    run(run_every(check, arguments.interval, arguments.listen))
