"""Arguments of `events`."""

from support_service.arguments import argument_types
from support_service.arguments.subcommands import Subcommands


def add_to(commands: Subcommands) -> None:
    """Add `events` to the commands."""
    nouns = commands.group("events", "list and replay dead letters and webhook deliveries", "KIND")
    _add_dead_letters(nouns.group("dead-letters", "inbound events that could not be applied", "ACTION"))
    _add_webhooks(nouns.group("webhooks", "deliveries of events to the endpoints in SUPPORT_WEBHOOKS", "ACTION"))


def _add_dead_letters(actions: Subcommands) -> None:
    actions.add(
        "list", "print dead letters with the reason, oldest first, one JSON object per line", "events:list_dead_letters"
    )
    replay = actions.add(
        "replay", "move dead letters to the end of their stream, to be applied again", "events:replay_dead_letters"
    )
    replay.add_argument(
        "ids", nargs="*", type=argument_types.stream_entry, metavar="ID", help="id from the list (default: all)"
    )
    drop = actions.add("drop", "delete dead letters that can never be applied", "events:drop_dead_letters")
    drop.add_argument("ids", nargs="+", type=argument_types.stream_entry, metavar="ID", help="id from the list")


def _add_webhooks(actions: Subcommands) -> None:
    listed = actions.add("list", "print deliveries, newest first, one JSON object per line", "events:list_deliveries")
    listed.add_argument("--state", choices=("pending", "delivered", "failed"), help="only deliveries in this state")
    replay = actions.add(
        "replay", "schedule deliveries again, with attempts for another day", "events:replay_deliveries"
    )
    replay.add_argument(
        "ids",
        nargs="*",
        type=argument_types.positive_int,
        metavar="ID",
        help="id from the list (default: all failed deliveries)",
    )
