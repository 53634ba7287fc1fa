"""Strict JSON: documents that two parsers could interpret differently are refused."""

import json
from typing import Any, NoReturn

from support_service.core.json_limits import nests_too_deep


def read_object(document: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises ValueError for other values, duplicate names, NaN, Infinity and excessive nesting."""
    try:
        found = json.loads(document.decode(), object_pairs_hook=_each_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it nests too deep") from None
    if nests_too_deep(document, found):  # Python versions differ in the depth at which they fail
        raise ValueError("it nests too deep")
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - for callers, one more kind of invalid document
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _no_number(_: str) -> NoReturn:
    raise ValueError("it has a number that is none")
