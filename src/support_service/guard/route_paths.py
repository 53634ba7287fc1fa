"""Paths of routes, as aiohttp's router takes them."""

import re

VARIABLE = re.compile(r"\{(\w+)\}")


def any_segment(path: str) -> str:
    """Return the path with variables that match every segment.

    Those of aiohttp match none with a brace, and customers' ids and names of files may have one.
    """
    return VARIABLE.sub(r"{\1:[^/]+}", path)
