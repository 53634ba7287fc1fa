"""The tests' own rule: what is missing fails the run, and says how to get it."""

import pytest

from tests.support.servers import MissingServer, find_binary


def test_a_missing_server_says_how_to_get_it():
    """A server that is not installed is named, with the command that installs it."""
    with pytest.raises(MissingServer) as missing:
        find_binary("no-such-server")
    assert "no-such-server" in str(missing.value)
    assert "make services" in str(missing.value)
