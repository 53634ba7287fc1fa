"""Arguments of `erase` and `export`."""

from support_service.arguments.subcommands import Subcommands


def add_to(commands: Subcommands) -> None:
    """Add these commands."""
    what = "erase what the service keeps of a customer, and print a receipt; status 1 where something is left to do"
    kinds = commands.group("erase", what, "WHOM")
    what = "cases, messages, files, events and caches; the cases stay as counts and times"
    customer = kinds.add("customer", what, "privacy:erase_customer")
    customer.add_argument("id", metavar="ID", help="as `customerId` has it")
    customer.add_argument("--dry-run", action="store_true", help="erase nothing, only name the cases")
    customer.add_argument("--yes", action="store_true", help="don't ask whether you mean it")
    what = "print every case as a line of JSON, without what says who the customer is or what they wrote"
    export = commands.add("export", what, "privacy:export_cases")
    export.add_argument("--unmasked", action="store_true", help="with everything")
