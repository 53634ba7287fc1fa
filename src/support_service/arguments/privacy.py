"""Arguments of `erase` and `export`."""

from support_service.arguments.subcommands import Subcommands


def add_to(commands: Subcommands) -> None:
    """Add these commands."""
    what = "erase the personal data of a customer and print a receipt; exit status 1 if data remains"
    subjects = commands.group("erase", what, "SUBJECT")
    what = "erase a customer's cases, messages, files, events and caches; only counts and times of the cases remain"
    customer = subjects.add("customer", what, "privacy:erase_customer")
    customer.add_argument("id", metavar="ID", help="the customer's `customerId`")
    customer.add_argument("--dry-run", action="store_true", help="erase nothing, only list the cases")
    customer.add_argument("--yes", action="store_true", help="don't ask for confirmation")
    what = "print every case as a line of JSON, with personal data and texts masked"
    export = commands.add("export", what, "privacy:export_cases")
    export.add_argument("--unmasked", action="store_true", help="don't mask anything")
