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

Levers lie in the database of SUPPORT_DATABASE_URL. Every replica follows within seconds, and each lever ends by itself.
Durations: 90s, 30m, 2h, 1d; at most 7d. An answer that was kept before `ttl` was pulled stays for no longer than it
would have: SUPPORT_TIMELINE_CACHE_TTL and SUPPORT_TIMELINE_STALE_TTL together.
"""
EXAMPLE = "example:\n  support-service timeline "


def add_to(commands: Subcommands) -> None:
    """Add `timeline` to the commands."""
    what = "switch a service behind the timeline off for a while, or let its answers count as current for longer"
    levers = commands.group("timeline", what, "LEVER", epilog=EXAMPLES)
    example = f'{EXAMPLE}degrade payment --for 30m --reason "being restored"'
    off = levers.add("degrade", "stop asking a service", "timeline:degrade", epilog=example)
    off.add_argument("service", metavar="SERVICE", help=", ".join(UPSTREAM_SERVICES))
    example = f"{EXAMPLE}ttl 1800 --for 2h"
    ttl = levers.add("ttl", "set how long answers count as current", "timeline:ttl", epilog=example)
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
    back = levers.add("restore", "put a lever back before its time", "timeline:restore", epilog=example)
    back.add_argument("lever", metavar="LEVER", help=any_of((*UPSTREAM_SERVICES, "ttl", "all")))
    levers.add("status", "show what is pulled now", "timeline:status", epilog=f"{EXAMPLE}status")
