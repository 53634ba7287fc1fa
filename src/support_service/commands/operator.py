"""Who types a command, for the audit log: the account of this machine that runs it."""

import os
import pwd

from support_service.core.principals import Caller


def operator() -> Caller:
    """The account as a caller; a container's may have no name."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = str(number)
    return Caller(f"operator {name}", "supervisor")
