"""The entry point of `support-service`: Ctrl-C, errors and exit statuses.

It imports little, so that Ctrl-C is handled before the parser is imported, and long before the command is.
"""

import os
import sys
from importlib import import_module

from support_service.core import interrupts
from support_service.core.errors import UserError

REFUSAL_STATUS = 2  # exit status of a refusal, unless the command defines another
BROKEN_PIPE_STATUS = 141  # exit status if the output is no longer read: 128 + SIGPIPE, as in shells


def main() -> None:
    """Run the command that the arguments name."""
    interrupts.exit_on_interrupt()
    try:
        try:
            _run_command()
        finally:
            interrupts.exit_on_interrupt()  # a server's event loop restores Python's own SIGINT handler
    except KeyboardInterrupt:
        interrupts.exit_on_interrupt()
        sys.exit(interrupts.INTERRUPT_EXIT_STATUS)


def _run_command() -> None:
    refused = REFUSAL_STATUS
    try:
        try:
            arguments = import_module("support_service.commands.parser").build_parser().parse_args()
            refused = arguments.refused
            arguments.run(arguments, os.environ)
        finally:
            _flush_output()
    except BrokenPipeError:  # for example, `export | head` after `head` has exited
        sys.exit(BROKEN_PIPE_STATUS)
    except (UserError, OSError) as refusal:
        print(f"support-service: {str(refusal) or type(refusal).__name__}", file=sys.stderr)
        sys.exit(refused)


def _flush_output() -> None:
    """Write out buffered output. If that raises OSError, discard the output, or the interpreter would retry at exit."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
