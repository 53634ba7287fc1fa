"""Handling of Ctrl-C: end the process with status 130 and without a traceback.

Python's own handler raises KeyboardInterrupt between any two bytecodes. Nothing can catch that while the first modules
are imported, in a destructor or while the interpreter shuts down, and a traceback is printed. So the process exits
immediately instead; a command that has an event loop is cancelled first. No data is lost: all durable data is written
so that the process may be killed at any time.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPT_EXIT_STATUS = 130  # the exit status that shells report for a command ended by Ctrl-C (128 + SIGINT)


def exit_on_interrupt() -> None:
    """Make Ctrl-C exit immediately. If SIGINT is ignored, as in a script's background jobs, it stays ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit_immediately)


@contextmanager
def on_first_interrupt(function: Callable[[], object]) -> Iterator[None]:
    """Make the first Ctrl-C within the block call `function`; the second one exits immediately."""
    if signal.getsignal(signal.SIGINT) is not _exit_immediately:  # ignored, or the calling program has its own handler
        yield
        return

    def first(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, _exit_immediately)
        function()

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _exit_immediately)


def _exit_immediately(
    _number: int, _frame: FrameType | None, end: Callable[[int], None] = os._exit, status: int = INTERRUPT_EXIT_STATUS
) -> None:
    # Both names are bound as defaults, because the interpreter clears module globals while it shuts down.
    end(status)  # pragma: no cover - the process ends before coverage.py saves its data
