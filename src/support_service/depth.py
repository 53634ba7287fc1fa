"""How deep JSON nests: what is too deep for one reader must be refused where it comes in."""

MAX_DEPTH = 32  # nested objects and lists in what is sent to the service, and in what it is answered


def nests_too_deep(text: bytes, document: object, limit: int = MAX_DEPTH) -> bool:
    """Whether a document, parsed from this text, nests deeper than the limit."""
    # Only a text with that many brackets can be that deep, and almost none has them.
    return text.count(b"{") + text.count(b"[") > limit and _exceeds(document, limit)


def _exceeds(value: object, limit: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if children is None:
        return False
    return limit == 0 or any(_exceeds(child, limit - 1) for child in children)
