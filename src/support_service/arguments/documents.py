"""Arguments of `asyncapi` and `openapi`."""

from support_service.arguments.subcommands import Subcommands


def add_to(commands: Subcommands) -> None:
    """Add these commands."""
    what = "print the AsyncAPI document, which describes inbound and published events"
    commands.add("asyncapi", what, "documents:asyncapi")
    openapi = commands.add("openapi", "print the OpenAPI document, which describes every endpoint", "documents:openapi")
    openapi.add_argument("--check", action="store_true", help="print only its gaps; exit status 1 if it has any")
