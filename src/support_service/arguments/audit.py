"""Arguments of `audit`."""

from support_service.arguments.subcommands import Subcommands

EXAMPLES = """\
examples:
  support-service audit verify
  support-service audit verify --from-head 0f343b09…

The first prints the chain's head: write it down where whoever can write to the database can't. The second also holds
the chain against a head that was written down: a chain that was cut off or written anew since does not have it.
"""


def add_to(commands: Subcommands) -> None:
    """Add `audit` to the commands."""
    audit = commands.group("audit", "see whether the audit log was altered", "ACTION")
    what = "walk the whole chain; exit status 0 where it holds, 1 where it is broken"
    verify = audit.add("verify", what, "audit:verify", epilog=EXAMPLES)
    verify.add_argument("--from-head", metavar="HASH", help="a head that the chain had, as this command printed it")
