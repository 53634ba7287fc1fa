"""The principal of the command line, as the audit log names it."""

import os

from support_service.commands.runtime import cli_principal


def test_principal_of_an_account_without_a_name_has_its_number(monkeypatch):
    """A user in a container may have only a number, and the audit log must still name them."""
    number = 2**31 - 7  # no account has this number
    monkeypatch.setattr(os, "getuid", lambda: number)
    assert cli_principal().name == f"operator {number}"
