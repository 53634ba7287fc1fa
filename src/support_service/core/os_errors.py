"""Errors of the operating system as text for people."""

import os
import re
import ssl

# What OpenSSL's text has around the words: `[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)`.
OPENSSL_MARKS = re.compile(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$")


def describe_os_error(failure: BaseException) -> str:
    """Return the text of the operating system or of TLS for an error, such as `Connection refused`, without numbers."""
    if isinstance(failure, ssl.SSLError):  # its numbers are OpenSSL's: 1 is not EPERM
        return f"TLS failed: {OPENSSL_MARKS.sub('', str(failure.strerror or text_on_one_line(failure)))}"
    number, text = getattr(failure, "errno", None), getattr(failure, "strerror", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)
    if isinstance(failure, ConnectionError) and not failure.args:  # asyncio's, if the server ends a TLS handshake
        return "the server closed the connection"
    return str(text or ("no answer in time" if isinstance(failure, TimeoutError) else text_on_one_line(failure)))


def text_on_one_line(failure: BaseException) -> str:
    """Return the text of an exception on one line, or the name of its class if it has none."""
    return " ".join(str(failure).split()) or type(failure).__name__
