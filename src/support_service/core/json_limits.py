"""How deep JSON nests, and how many parts it has: what is too much for one reader must be refused where it comes in."""

import re

MAX_DEPTH = 32  # nested objects and lists in what is sent to the service, and in what it is answered
MAX_PARTS = 10_000  # objects and lists: a mebibyte of nothing but brackets takes half a second to read
# Whatever follows it, a text ends somewhere, or the search would begin anew at each of its escaped quotes.
TEXT = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)', re.DOTALL)


def has_too_many_parts(text: bytes) -> bool:
    """Whether JSON that was not parsed yet has more objects and lists than MAX_PARTS; those in texts are none."""
    return _brackets(text) > MAX_PARTS and _brackets(TEXT.sub(b"", text)) > MAX_PARTS


def nests_too_deep(text: bytes, document: object, limit: int = MAX_DEPTH) -> bool:
    """Whether a document, parsed from this text, nests deeper than the limit."""
    # Only a text with that many brackets can be that deep, and almost none has them.
    return _brackets(text) > limit and _exceeds(document, limit)


def _brackets(text: bytes) -> int:
    return text.count(b"{") + text.count(b"[")


def _exceeds(value: object, limit: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if children is None:
        return False
    return limit == 0 or any(_exceeds(child, limit - 1) for child in children)
