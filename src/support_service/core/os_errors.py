"""Errors of the operating system as text for people."""

import os


def describe_os_error(failure: BaseException) -> str:
    """Return the operating system's text for an error, such as `Connection refused`, without numbers."""
    number, text = getattr(failure, "errno", None), getattr(failure, "strerror", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)
    return str(text or ("no answer in time" if isinstance(failure, TimeoutError) else one_line(failure)))


def one_line(failure: BaseException) -> str:
    """Return the text of an exception on one line, or the name of its class if it has none."""
    return " ".join(str(failure).split()) or type(failure).__name__
