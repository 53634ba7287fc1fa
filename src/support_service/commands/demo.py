"""The `support-service demo` and `demo traffic` commands."""

import argparse
from collections.abc import Mapping

from support_service.commands.runtime.event_loop import run
from support_service.demo import traffic as traffic_generator
from support_service.demo.run import run as run_demo
from support_service.platform.settings import ClientSettings


def demo(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Serve the API with simulated upstream services and sample cases."""
    run(run_demo(environ, arguments.port))


def traffic(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Send load to a running service."""
    headers = ClientSettings.of(environ).headers
    run(traffic_generator.run(arguments.base_url, headers, arguments.rate, arguments.duration, faults=arguments.faults))
