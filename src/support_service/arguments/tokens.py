"""Arguments of `token`."""

from support_service.arguments.subcommands import Subcommands
from support_service.core.principals import ROLES

EXAMPLES = """\
examples:
  support-service token create lan --role agent --subject agent-lan --team returns --expires 90d
  support-service token create shop --role service
  support-service token list
  support-service token revoke lan

Tokens lie in SUPPORT_TOKENS_FILE (var/tokens.json), as hashes: a token is shown once, where it is made.
To replace one without a gap, make another under a new name, hand it out, and revoke the old one.
"""
EXAMPLE = "example:\n  support-service token "


def add_to(commands: Subcommands) -> None:
    """Add `token` to the commands."""
    what = "make, list and revoke the tokens that let callers in where SUPPORT_AUTH is token"
    actions = commands.group("token", what, "DEED", epilog=EXAMPLES)
    example = f"{EXAMPLE}create lan --role agent --subject agent-lan"
    new = actions.add("create", "make a token, and print it", "tokens:create", epilog=example)
    new.add_argument("name", metavar="NAME", help="whose it is, for logs and for the list")
    new.add_argument("--role", required=True, choices=ROLES, help="what its holder may do")
    new.add_argument("--subject", metavar="ID", help="the agent's or the customer's id, as cases name it")
    new.add_argument(
        "--team", metavar="T", dest="teams", action="append", default=[], help="a team of theirs; repeatable"
    )
    new.add_argument("--expires", metavar="DURATION", help="12h, 90d, 52w (default: never)")
    actions.add("list", "list all tokens, without the tokens", "tokens:list_tokens", epilog=f"{EXAMPLE}list")
    example = f"{EXAMPLE}revoke lan"
    old = actions.add("revoke", "let a token let nobody in any more", "tokens:revoke", epilog=example)
    old.add_argument("name", metavar="NAME", help="as `token list` shows it")
