"""Arguments that are read with care: where one is wrong, the usage error says what is allowed."""

import argparse
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def argument(read: Callable[[str], Value]) -> Callable[[str], Value]:
    """A reader for argparse, out of one that raises ValueError with what is allowed."""

    def checked(text: str) -> Value:
        try:
            return read(text)
        except ValueError as failure:
            raise argparse.ArgumentTypeError(f"{text!r}: allowed is {failure}") from None

    return checked
