"""The principal of a command in the audit log: the Unix account that runs it."""

import os
import pwd

from support_service.core.domain.principals import Principal


def cli_principal() -> Principal:
    """Return the Unix account as a caller with the role supervisor. An account without a name is named by its uid."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = str(number)
    return Principal(f"operator {name}", "supervisor")
