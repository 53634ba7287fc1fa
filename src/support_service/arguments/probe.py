"""Arguments of `probe`."""

from support_service.arguments import argument_types
from support_service.arguments.subcommands import Subcommands
from support_service.core.domain.case_vocabulary import SYNTHETIC

NOT_RUN_STATUS = 3  # exit status of a check that could not run


def add_to(commands: Subcommands) -> None:
    """Add `probe` to the commands."""
    probe = commands.add(
        "probe",
        "check a running service from outside with a synthetic case",
        "probe:probe",
        description="Open a synthetic case, add a message, upload and download a file, send an event of the "
        "fulfillment service and wait until the timeline shows it, refresh the timeline, close the case, and delete "
        "it. Prints a JSON report of each check. SUPPORT_TOKEN authenticates. Exit status: 0 good, 2 wrong or slow, "
        "3 could not run.",
    )
    probe.wrong_usage = NOT_RUN_STATUS
    probe.set_defaults(refused=NOT_RUN_STATUS)
    probe.add_argument(
        "--base-url",
        type=argument_types.base_url,
        required=True,
        metavar="URL",
        help="URL of the service, such as http://HOST:PORT",
    )
    probe.add_argument(
        "--ingress-url",
        type=argument_types.base_url,
        metavar="URL",
        help="URL of the same service through its ingress; a second check uses it",
    )
    mode = probe.add_mutually_exclusive_group()
    mode.add_argument("--once", action="store_true", help="check once (default)")
    mode.add_argument(
        "--interval",
        type=argument_types.seconds,
        metavar="DURATION",
        help="check repeatedly at this interval, such as 60s or 5m",
    )
    probe.add_argument(
        "--listen",
        type=argument_types.address,
        default=("127.0.0.1", 9101),
        metavar="HOST:PORT",
        help="with --interval: address on which to serve /metrics",
    )
    probe.add_argument(
        "--channel",
        default=SYNTHETIC,
        help="one of the service's SUPPORT_SYNTHETIC_CHANNELS (default: %(default)s)",
    )
    probe.add_argument(
        "--threshold",
        type=argument_types.seconds,
        default=3.0,  # the default of SUPPORT_TIMELINE_DEADLINE: slower timelines have their own alert
        metavar="DURATION",
        help="maximum duration of each step (default: %(default)ss)",
    )
    probe.add_argument(
        "--event-threshold",
        type=argument_types.seconds,
        default=5.0,
        metavar="DURATION",
        help="maximum time from the event to its timeline entry (default: %(default)ss)",
    )
    probe.add_argument(
        "--header",
        action="append",
        default=[],
        type=argument_types.header,
        metavar="NAME:VALUE",
        help="header to add to each request; repeatable",
    )
