"""Names that callers choose for macros and service level policies, and that are part of their paths."""

import re

from support_service.core.errors import FieldError, ValidationFailed

# A name is a segment of a path: it has no character that needs encoding, and is never `.` or `..`.
NAME_PATTERN = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def is_valid_name(text: str) -> bool:
    """Return whether a text can be the name of a macro or of a service level policy."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def expect_valid_name(text: str, noun: str) -> None:
    """Raise ValidationFailed if a text can't be the name of a resource; `noun` names its kind, such as `macro`."""
    if not is_valid_name(text):
        problem = FieldError("name", "must have 1 to 64 letters, digits, - _ or . and begin with a letter or digit")
        raise ValidationFailed("invalid_request", f"The name in the path can't be the name of a {noun}.", [problem])
