"""Arguments of `timeline`, which sets, clears and shows overrides."""

from support_service.arguments.subcommands import Subcommands
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES, any_of

EXAMPLES = """\
examples:
  support-service timeline degrade payment --for 30m --reason "payment-service is being restored"
  support-service timeline ttl 1800 --for 2h --reason "order-service is slow"
  support-service timeline status
  support-service timeline clear payment
  support-service timeline clear all

Overrides are stored in the database at SUPPORT_DATABASE_URL. Every replica applies them within seconds, and each
expires at its end. Durations: 90s, 30m, 2h, 1d; at most 7d. Snapshots that were cached before the `ttl` override keep
their expiry: SUPPORT_TIMELINE_CACHE_TTL plus SUPPORT_TIMELINE_STALE_TTL.
"""
EXAMPLE = "example:\n  support-service timeline "


def add_to(commands: Subcommands) -> None:
    """Add `timeline` to the commands."""
    what = "set, clear and show timeline overrides: switch a source off, or keep its answers fresh for longer"
    actions = commands.group("timeline", what, "ACTION", epilog=EXAMPLES)
    example = f'{EXAMPLE}degrade payment --for 30m --reason "being restored"'
    degrade = actions.add("degrade", "set an override: stop calling a service", "timeline:degrade", epilog=example)
    degrade.add_argument("service", metavar="SERVICE", help=", ".join(UPSTREAM_SERVICES))
    example = f"{EXAMPLE}ttl 1800 --for 2h"
    ttl = actions.add("ttl", "set an override: how long cached answers are fresh", "timeline:ttl", epilog=example)
    ttl.add_argument("seconds", metavar="SECONDS", help="1 to 86400")
    for parser in (degrade, ttl):
        parser.add_argument(
            "--for", dest="time", metavar="DURATION", required=True, help="90s, 30m, 2h, 1d; at most 7d"
        )
        parser.add_argument(
            "--reason",
            metavar="TEXT",
            required=parser is degrade,
            default="",
            help="shown to agents, in the log and by status",
        )
    example = f"{EXAMPLE}clear payment"
    for name, text in (("clear", "clear an override before it expires"), ("restore", "")):  # `restore`: the former name
        clear = actions.add(name, text, "timeline:clear", description="Clear an override.", epilog=example)
        clear.add_argument("override", metavar="OVERRIDE", help=any_of((*UPSTREAM_SERVICES, "ttl", "all")))
    actions.add("status", "show the active overrides", "timeline:status", epilog=f"{EXAMPLE}status")
