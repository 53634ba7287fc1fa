"""Arguments of `token`."""

from support_service.arguments.subcommands import Subcommands
from support_service.core.domain.principals import ROLES

EXAMPLES = """\
examples:
  support-service token create lan --role agent --subject agent-lan --team returns --expires 90d
  support-service token create shop --role service
  support-service token list
  support-service token revoke lan

SUPPORT_TOKENS_FILE (default: var/tokens.json) stores only hashes of the tokens: a token is shown once,
when it is created. To rotate a token without downtime, create one under a new name, distribute it, and revoke the old
one.
"""
EXAMPLE = "example:\n  support-service token "


def add_to(commands: Subcommands) -> None:
    """Add `token` to the commands."""
    what = "create, list and revoke the tokens of callers, for SUPPORT_AUTH=token"
    actions = commands.group("token", what, "ACTION", epilog=EXAMPLES)
    example = f"{EXAMPLE}create lan --role agent --subject agent-lan"
    new = actions.add("create", "create a token and print it", "tokens:create", epilog=example)
    new.add_argument("name", metavar="NAME", help="name of the token, for the list and logs")
    new.add_argument("--role", required=True, choices=ROLES, help="role of the caller")
    new.add_argument("--subject", metavar="ID", help="agent id or customer id of the caller, as in cases")
    new.add_argument(
        "--team", metavar="T", dest="teams", action="append", default=[], help="team of the agent; repeatable"
    )
    new.add_argument("--expires", metavar="DURATION", help="validity, such as 12h, 90d or 52w (default: unlimited)")
    actions.add("list", "list all tokens, without their secrets", "tokens:list_tokens", epilog=f"{EXAMPLE}list")
    example = f"{EXAMPLE}revoke lan"
    old = actions.add("revoke", "revoke a token", "tokens:revoke", epilog=example)
    old.add_argument("name", metavar="NAME", help="name from `token list`")
