"""JSON of which there is one reading."""

import pytest

from support_service.core.json_input import MAX_DEPTH
from support_service.platform.access.keys import parse_strict_json_object


def test_deeply_nested_json_is_refused():
    """The limit is ours, and not that of Python's parser."""
    with pytest.raises(ValueError, match="it is nested too deep"):
        parse_strict_json_object(b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1))
    assert parse_strict_json_object(b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH)
