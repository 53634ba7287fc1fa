"""Arguments of `audit`."""

from support_service.arguments.subcommands import Subcommands

EXAMPLES = """\
examples:
  support-service audit verify
  support-service audit verify --from-head 0f343b09…

The first command prints the head of the chain. Store it where accounts that can write to the database can't change it.
The second command also checks that the chain contains a stored head: a chain that was truncated or rewritten does not.
"""


def add_to(commands: Subcommands) -> None:
    """Add `audit` to the commands."""
    audit = commands.group("audit", "detect changes of the audit log", "ACTION")
    what = "verify the whole hash chain; exit status 0 if it is intact, 1 if it is broken"
    verify = audit.add("verify", what, "audit:verify", epilog=EXAMPLES)
    verify.add_argument(
        "--from-head", metavar="HASH", help="a head that this command printed before; the chain must contain it"
    )
