"""The event loop of a command."""

import asyncio

import pytest

from support_service.commands.runtime.event_loop import run


def test_a_cancellation_that_is_no_interrupt_stays_one():
    """Only Ctrl-C becomes KeyboardInterrupt; the handler of SIGINT that a caller has set is left alone."""

    async def cancelled():
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run(cancelled())


def test_a_command_gives_what_its_coroutine_returns():
    """The loop is one of uvloop's, and closed at the end."""

    async def module():
        return type(asyncio.get_running_loop()).__module__

    assert run(module()) == "uvloop"
