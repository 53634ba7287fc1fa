"""The `support-service demo traffic` command."""

import argparse
from collections.abc import Mapping

from support_service.commands.event_loop import run
from support_service.demo.traffic import run as send_traffic
from support_service.settings import Client


def traffic(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Send load to a running service."""
    headers = Client.of(environ).headers
    run(send_traffic(arguments.base_url, headers, arguments.rate, arguments.duration, faults=arguments.faults))
