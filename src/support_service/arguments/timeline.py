"""Arguments of `timeline`, which sets, clears and shows overrides."""

from support_service.arguments.subcommands import Subcommands
from support_service.core.upstream_services import UPSTREAM_SERVICES, any_of

EXAMPLES = """\
examples:
  support-service timeline degrade payment --for 30m --reason "payment-service is being restored"
  support-service timeline ttl 1800 --for 2h --reason "order-service is slow"
  support-service timeline status
  support-service timeline restore payment
  support-service timeline restore all

Overrides are stored in the database of SUPPORT_DATABASE_URL. Every replica applies them within seconds, and each
expires by itself. Durations: 90s, 30m, 2h, 1d; at most 7d. `ttl` does not extend how long answers that are already
cached are stored: SUPPORT_TIMELINE_CACHE_TTL and SUPPORT_TIMELINE_STALE_TTL together.
"""
EXAMPLE = "example:\n  support-service timeline "


def add_to(commands: Subcommands) -> None:
    """Add `timeline` to the commands."""
    what = "switch an upstream service of the timeline off for a while, or change how long its answers are current"
    overrides = commands.group("timeline", what, "OVERRIDE", epilog=EXAMPLES)
    example = f'{EXAMPLE}degrade payment --for 30m --reason "being restored"'
    off = overrides.add("degrade", "stop asking a service", "timeline:degrade", epilog=example)
    off.add_argument("service", metavar="SERVICE", help=", ".join(UPSTREAM_SERVICES))
    example = f"{EXAMPLE}ttl 1800 --for 2h"
    ttl = overrides.add("ttl", "set how long answers count as current", "timeline:ttl", epilog=example)
    ttl.add_argument("seconds", metavar="SECONDS", help="1 to 86400")
    for parser in (off, ttl):
        parser.add_argument(
            "--for", dest="time", metavar="DURATION", required=True, help="90s, 30m, 2h, 1d; at most 7d"
        )
        parser.add_argument(
            "--reason",
            metavar="TEXT",
            required=parser is off,
            default="",
            help="shown to agents, in the log, by status",
        )
    example = f"{EXAMPLE}restore payment"
    clear = overrides.add("restore", "clear an override before it expires", "timeline:restore", epilog=example)
    clear.add_argument("override", metavar="OVERRIDE", help=any_of((*UPSTREAM_SERVICES, "ttl", "all")))
    overrides.add("status", "show the overrides in effect", "timeline:status", epilog=f"{EXAMPLE}status")
