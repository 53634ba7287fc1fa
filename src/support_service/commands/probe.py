"""The `support-service probe` command."""

import argparse
import sys
from collections.abc import Mapping

from support_service.commands import grammar
from support_service.commands.runtime import run_coroutine
from support_service.core.domain.case_vocabulary import SYNTHETIC

NOT_RUN_STATUS = 3  # exit status of a check that could not run


def add_to(commands: grammar.Subcommands) -> None:
    """Add `probe` to the commands."""
    command = commands.add(
        "probe",
        "check a running service from outside with a synthetic case",
        probe,
        description="Open a synthetic case, add a message, and upload and download a file. Send an event of the "
        "fulfillment service and wait until the timeline shows it. Refresh the timeline, close the case, and delete "
        "it. Prints a JSON report of each check. SUPPORT_TOKEN authenticates. Exit status: 0 good, 2 wrong or slow, "
        "3 could not run.",
    )
    command.usage_error_status = NOT_RUN_STATUS
    command.set_defaults(refused=NOT_RUN_STATUS)
    command.add_argument(
        "--base-url",
        type=grammar.base_url,
        required=True,
        metavar="URL",
        help="URL of the service, such as http://HOST:PORT",
    )
    command.add_argument(
        "--ingress-url",
        type=grammar.base_url,
        metavar="URL",
        help="URL of the same service through its ingress; a second check uses it",
    )
    mode = command.add_mutually_exclusive_group()
    mode.add_argument("--once", action="store_true", help="check once (default)")
    mode.add_argument(
        "--interval",
        type=grammar.seconds,
        metavar="DURATION",
        help="check repeatedly at this interval, such as 60s or 5m",
    )
    command.add_argument(
        "--listen",
        type=grammar.address,
        default=("127.0.0.1", 9101),
        metavar="HOST:PORT",
        help="with --interval: address on which to serve /metrics; OTEL_METRICS_EXPORTER=otlp also exports them",
    )
    command.add_argument(
        "--channel", default=SYNTHETIC, help="one of the service's SUPPORT_SYNTHETIC_CHANNELS (default: %(default)s)"
    )
    command.add_argument(
        "--threshold",
        type=grammar.seconds,
        default=3.0,  # as long as a read collects by default: slower timelines have their own alert
        metavar="DURATION",
        help="maximum duration of each step (default: %(default)ss)",
    )
    command.add_argument(
        "--event-threshold",
        type=grammar.seconds,
        default=5.0,
        metavar="DURATION",
        help="maximum time from the event to its timeline entry (default: %(default)ss)",
    )
    command.add_argument(
        "--upload-size",
        type=grammar.size,
        default="64KiB",
        metavar="SIZE",
        help="size of the file that is uploaded, such as 25MB. A file as large as customers' files finds an ingress "
        "that refuses such files (default: %(default)s)",
    )
    command.add_argument(
        "--header",
        action="append",
        default=[],
        type=grammar.header,
        metavar="NAME:VALUE",
        help="header to add to each request; repeatable",
    )


def probe(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Check a running service once, or at an interval; also through its ingress, if that has a URL."""
    from support_service.platform.settings import ClientSettings
    from support_service.platform.settings.process import TelemetrySettings
    from support_service.probe.check import SyntheticCheck
    from support_service.probe.run import run_every, run_once

    headers = ClientSettings.load(environ).headers | dict(arguments.header)
    limits = (arguments.threshold, arguments.event_threshold, arguments.channel)
    size = arguments.upload_size
    checks = [SyntheticCheck(arguments.base_url, headers, *limits, upload_bytes=size)]
    if arguments.ingress_url is not None:
        checks.append(SyntheticCheck(arguments.ingress_url, headers, *limits, upload_bytes=size, via="ingress"))
    if arguments.interval is None:
        sys.exit(run_coroutine(run_once(checks)))
    pushed = [name for name in TelemetrySettings.load(environ).metrics if name != "prometheus"]
    run_coroutine(run_every(checks, arguments.interval, arguments.listen, ["prometheus", *pushed]))
