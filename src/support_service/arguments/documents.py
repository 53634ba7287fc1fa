"""Arguments of `asyncapi` and `openapi`."""

from support_service.arguments.subcommands import Subcommands


def add_to(commands: Subcommands) -> None:
    """Add these commands."""
    what = "print the AsyncAPI document, which describes events in both directions"
    commands.add("asyncapi", what, "asyncapi:asyncapi")
    openapi = commands.add("openapi", "print the OpenAPI document, which describes every call", "openapi:openapi")
    openapi.add_argument("--check", action="store_true", help="say only what it lacks; exit status 1 if anything")
