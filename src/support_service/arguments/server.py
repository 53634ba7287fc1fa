"""Arguments of `serve` and `migrate`."""

from support_service.arguments.subcommands import Subcommands


def add_to(commands: Subcommands) -> None:
    """Add these commands."""
    commands.add("serve", "serve the API until SIGTERM; a SQLite database is migrated first", "serve:serve")
    commands.add("migrate", "bring the database to the newest schema", "migrate:migrate")
