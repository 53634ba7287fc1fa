"""The event loop in which commands run."""

import asyncio

import pytest

from support_service.commands.runtime import run_coroutine


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
