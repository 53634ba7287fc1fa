"""The tests' own rule: what is missing fails the run, and says how to get it."""

import pytest

from tests.support.servers import MissingServer, find_binary


def test_missing_server_is_reported_with_the_install_command():
    with pytest.raises(MissingServer) as missing:
        find_binary("no-such-server")
    assert "no-such-server" in str(missing.value)
    assert "make services" in str(missing.value)
