"""Ids of cases, messages and attachments: random UUIDs, in a column of 36 characters."""

from uuid import uuid4

LENGTH = 36


def new_id() -> str:
    """An id that nothing else has."""
    return str(uuid4())


def may_be_id(text: str) -> bool:
    """Whether a text can be an id at all; any other is not worth a query, and some a database won't even take."""
    return len(text) <= LENGTH and text.isascii() and text.isprintable()
