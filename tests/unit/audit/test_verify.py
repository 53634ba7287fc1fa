"""The output of `audit verify` on a terminal. Elsewhere the command prints JSON."""

import sys

import pytest

from support_service.commands.audit import _print_verdict
from support_service.platform.audit.chain import ChainHead
from support_service.platform.audit.verify import ChainVerification


@pytest.mark.parametrize(
    ("flaw", "expected"),
    [
        (None, "The chain is intact: 2 entries. Store its head outside of the database: 6162\n"),
        ("an entry is missing", "The chain is broken: an entry is missing. It is intact up to position 2, 6162.\n"),
    ],
)
def test_verdict_on_a_terminal_is_a_sentence(monkeypatch, capsys, flaw, expected):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _print_verdict(ChainVerification(ChainHead(2, b"ab"), flaw))
    assert capsys.readouterr().out == expected
