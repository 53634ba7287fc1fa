"""Arguments of `probe`."""

from support_service.arguments import argument_types
from support_service.arguments.subcommands import Subcommands

NOT_RUN_STATUS = 3  # exit status of a check that could not run


def add_to(commands: Subcommands) -> None:
    """Add `probe` to the commands."""
    probe = commands.add(
        "probe",
        "check a running service from outside, from opening a case to deleting it",
        "probe:probe",
        description="Open a synthetic case, add a message, send a file and fetch it, send an event of the fulfillment "
        "service and wait until the timeline shows it, refresh, close, and delete what was made. Prints a JSON report. "
        "SUPPORT_TOKEN says who calls, where the service asks. Exit status: 0 good, 2 wrong or too slow, 3 could not "
        "run.",
    )
    probe.wrong_usage = NOT_RUN_STATUS
    probe.set_defaults(refused=NOT_RUN_STATUS)
    probe.add_argument("--base-url", required=True, metavar="URL", help="where the service is, as http://HOST:PORT")
    how = probe.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="check once (the default)")
    how.add_argument(
        "--interval", type=argument_types.seconds, metavar="DURATION", help="check again and again, as 60s or 5m"
    )
    probe.add_argument(
        "--listen",
        type=argument_types.address,
        default=("127.0.0.1", 9101),
        metavar="HOST:PORT",
        help="with --interval: serve /metrics",
    )
    probe.add_argument(
        "--threshold",
        type=argument_types.seconds,
        default=2.0,
        metavar="DURATION",
        help="for each step (default: %(default)ss)",
    )
    probe.add_argument(
        "--event-threshold",
        type=argument_types.seconds,
        default=5.0,
        metavar="DURATION",
        help="from the event to the timeline that shows it (default: %(default)ss)",
    )
    probe.add_argument(
        "--header",
        action="append",
        default=[],
        type=argument_types.header,
        metavar="NAME:VALUE",
        help="to send along",
    )
