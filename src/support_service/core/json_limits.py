"""Limits on the nesting depth and the number of parts of JSON, enforced where JSON enters the service.

JSON that is accepted must not be too large for a later reader.
"""

import re

MAX_DEPTH = 32  # nested objects and lists, in requests to the service and in the responses that it receives
MAX_CONTAINERS = 10_000  # objects and lists; parsing 1 MiB of nothing but brackets takes 0.5 s
# A JSON string. An unterminated one runs to the end of the input (\Z): otherwise the search would restart at each of
# its escaped quotes.
JSON_STRING = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)', re.DOTALL)


def has_too_many_containers(text: bytes) -> bool:
    """Return whether unparsed JSON has more than MAX_CONTAINERS objects and lists, not counting brackets in strings."""
    return _count_brackets(text) > MAX_CONTAINERS and _count_brackets(JSON_STRING.sub(b"", text)) > MAX_CONTAINERS


def exceeds_depth(text: bytes, document: object, limit: int = MAX_DEPTH) -> bool:
    """Return whether `document`, parsed from `text`, nests deeper than `limit`."""
    # Cheap check first: only a text with that many brackets can be that deep, and almost none has them.
    return _count_brackets(text) > limit and _is_deeper(document, limit)


def _count_brackets(text: bytes) -> int:
    return text.count(b"{") + text.count(b"[")


def _is_deeper(value: object, limit: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if children is None:
        return False
    return limit == 0 or any(_is_deeper(child, limit - 1) for child in children)
