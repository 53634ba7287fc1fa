"""The `support-service demo` command."""

import argparse
from collections.abc import Mapping

from support_service.commands.event_loop import run
from support_service.demo.run import run as run_demo


def demo(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Serve the API with simulated upstream services and sample cases."""
    run(run_demo(environ, arguments.port))
