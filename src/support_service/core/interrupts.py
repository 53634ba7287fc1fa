"""Ctrl-C ends the process with status 130 and never prints a traceback.

Python's own handler raises KeyboardInterrupt between any two bytecodes. Nothing can catch that while the first modules
are imported, in a destructor or while the interpreter shuts down, and a traceback is printed. So the process exits at
once instead; a command that has an event loop is cancelled first. No data is lost: whatever has to survive is written
in such a way that the process may be killed at any time.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STATUS = 130  # the exit status that shells give a command that Ctrl-C ended


def exit_on_interrupt() -> None:
    """Exit at once on Ctrl-C from now on. Where SIGINT is ignored, as in a script's background, it stays ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)


@contextmanager
def first_calls(function: Callable[[], object]) -> Iterator[None]:
    """Within the block, let the first Ctrl-C call a function instead; the second exits at once."""
    if signal.getsignal(signal.SIGINT) is not _exit:  # ignored, or handled by whoever called us
        yield
        return

    def first(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, _exit)
        function()

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _exit)


def _exit(_number: int, _frame: FrameType | None, end: Callable[[int], None] = os._exit, status: int = STATUS) -> None:
    # Both are defaults, because the interpreter clears the names of modules while it shuts down.
    end(status)
