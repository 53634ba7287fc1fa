"""JSON of which there is one reading."""

import pytest

from support_service.access.strict_json import parse_object
from support_service.core.json_limits import MAX_DEPTH


def test_what_nests_too_deep_is_refused():
    """The bound is ours, and not that of a Python's parser."""
    with pytest.raises(ValueError, match="it is nested too deep"):
        parse_object(b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1))
    assert parse_object(b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH)
