"""What commands run on: their event loop, and their principal as the audit log names it."""

import asyncio
import os

import pytest

from support_service.commands.runtime import cli_principal, run_coroutine


def test_cancellation_without_an_interrupt_stays_a_cancellation():
    """Only Ctrl-C becomes KeyboardInterrupt."""

    async def cancelled():
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_coroutine(cancelled())


def test_run_returns_the_result_of_the_coroutine():
    """The event loop is uvloop's."""

    async def module():
        return type(asyncio.get_running_loop()).__module__

    assert run_coroutine(module()) == "uvloop"


def test_principal_of_an_account_without_a_name_has_its_number(monkeypatch):
    """A user in a container may have only a number, and the audit log must still name them."""
    number = 2**31 - 7  # no account has this number
    monkeypatch.setattr(os, "getuid", lambda: number)
    assert cli_principal().name == f"operator {number}"
