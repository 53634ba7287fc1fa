"""Arguments of `events`."""

from support_service.arguments import argument_types
from support_service.arguments.subcommands import Subcommands


def add_to(commands: Subcommands) -> None:
    """Add `events` to the commands."""
    kinds = commands.group("events", "look at events that were given up, and send them again", "KIND")
    _add_dead_letters(kinds.group("dead-letters", "events of other services that could not take effect", "ACTION"))
    _add_webhooks(kinds.group("webhooks", "deliveries of events to the endpoints of SUPPORT_WEBHOOKS", "ACTION"))


def _add_dead_letters(actions: Subcommands) -> None:
    actions.add("list", "print them, one JSON object a line, with the reason", "events:list_dead_letters")
    replay = actions.add("replay", "put them back at the end of their stream", "events:replay_dead_letters")
    replay.add_argument(
        "ids", nargs="*", type=argument_types.stream_entry, metavar="ID", help="as the list shows it (default: all)"
    )
    drop = actions.add("drop", "forget those that can never take effect", "events:drop_dead_letters")
    drop.add_argument("ids", nargs="+", type=argument_types.stream_entry, metavar="ID", help="as the list shows it")


def _add_webhooks(actions: Subcommands) -> None:
    listed = actions.add("list", "print them, newest first, one JSON object a line", "events:list_deliveries")
    listed.add_argument("--state", choices=("pending", "delivered", "failed"), help="only those in this state")
    replay = actions.add("replay", "make them again, for another day of tries", "events:replay_deliveries")
    replay.add_argument(
        "ids",
        nargs="*",
        type=argument_types.positive_int,
        metavar="ID",
        help="as the list shows it (default: all that failed)",
    )
