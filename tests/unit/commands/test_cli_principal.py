"""Who types a command, as the audit log names them."""

import os

from support_service.commands.runtime.cli_principal import cli_principal


def test_an_account_without_a_name_is_named_by_its_number(monkeypatch):
    """In a container the user may have a number only; the audit log still says who acted."""
    number = 2**31 - 7  # of no account
    monkeypatch.setattr(os, "getuid", lambda: number)
    assert cli_principal().name == f"operator {number}"
