"""The `support-service probe` command."""

import argparse
import sys
from collections.abc import Mapping

from support_service.commands.runtime.event_loop import run
from support_service.platform.settings import ClientSettings
from support_service.probe.check import SyntheticCheck
from support_service.probe.run import run_every, run_once


def probe(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Check a running service once, or at an interval; also through its ingress, if that has a URL."""
    headers = ClientSettings.of(environ).headers | dict(arguments.header)
    limits = (arguments.threshold, arguments.event_threshold, arguments.channel)
    checks = [SyntheticCheck(arguments.base_url, headers, *limits)]
    if arguments.ingress_url is not None:
        checks.append(SyntheticCheck(arguments.ingress_url, headers, *limits, via="ingress"))
    if arguments.interval is None:
        sys.exit(run(run_once(checks)))
    run(run_every(checks, arguments.interval, arguments.listen))
