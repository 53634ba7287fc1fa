"""The entry point of `support-service`: Ctrl-C, refusals and exit statuses.

It imports little, so that Ctrl-C is handled before the parser is imported, and long before the command is.
"""

import os
import sys
from importlib import import_module

from support_service.core import interrupts
from support_service.core.refusals import Refusal

REFUSED = 2  # the exit status of a refusal, unless the command has another
NOT_READ = 141  # that of a command whose output nobody reads, as shells have it for SIGPIPE


def main() -> None:
    """Run the command that the arguments name."""
    interrupts.exit_on_interrupt()
    try:
        try:
            _run()
        finally:
            interrupts.exit_on_interrupt()  # the event loop of a server gives SIGINT back to Python's handler
    except KeyboardInterrupt:
        interrupts.exit_on_interrupt()
        sys.exit(interrupts.STATUS)


def _run() -> None:
    refused = REFUSED
    try:
        try:
            arguments = import_module("support_service.arguments.program").parser().parse_args()
            refused = arguments.refused
            arguments.run(arguments, os.environ)
        finally:
            _flush()
    except BrokenPipeError:  # as of `export | head`, which has read enough
        sys.exit(NOT_READ)
    except (Refusal, OSError) as refusal:
        print(f"support-service: {str(refusal) or type(refusal).__name__}", file=sys.stderr)
        sys.exit(refused)


def _flush() -> None:
    """Write out buffered output. Where that raises OSError, discard it, or the interpreter would try once more."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
