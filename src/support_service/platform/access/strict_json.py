"""Strict JSON: documents that two parsers could interpret differently are refused."""

import json
from typing import Any, NoReturn

from support_service.core.json_limits import exceeds_depth


def parse_object(document: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises ValueError for other values, duplicate names, NaN, Infinity and excessive nesting."""
    try:
        parsed = json.loads(document.decode(), object_pairs_hook=_unique_names, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if exceeds_depth(document, parsed):  # Python versions differ in the depth at which they fail
        raise ValueError("it is nested too deep")
    if not isinstance(parsed, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - for callers, one more kind of invalid document
    return parsed


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        raise ValueError("a name is repeated")
    return parsed


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("it contains NaN or Infinity")
