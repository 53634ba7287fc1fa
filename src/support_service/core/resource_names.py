"""Names that callers choose for macros and service level policies, and that are part of their paths."""

import re

# A name is a segment of a path: it has no character that needs encoding, and is never `.` or `..`.
NAME_PATTERN = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def is_valid_name(text: str) -> bool:
    """Return whether a text can be the name of a macro or of a service level policy."""
    return re.fullmatch(NAME_PATTERN, text) is not None
