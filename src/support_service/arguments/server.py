"""Arguments of `serve`."""

from support_service.arguments.subcommands import Subcommands


def add_to(commands: Subcommands) -> None:
    """Add `serve` to the commands."""
    commands.add("serve", "serve the API until SIGTERM; a SQLite database is migrated first", "server:serve")
