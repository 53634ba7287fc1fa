"""What a run needs: servers that are installed, and data that all its workers share."""

from types import SimpleNamespace
from uuid import uuid4

import pytest

from tests.support.plugins import tiers
from tests.support.servers import MissingServer, find_binary


def test_a_folder_is_built_once_and_an_attempt_that_failed_is_repeated(built_once):
    """What the failed attempt left is not seen, and the second user gets the folder as the first built it."""
    name, attempts = uuid4().hex, []

    def build(folder):
        attempts.append(sorted(folder.iterdir()))
        (folder / "data").write_text(str(len(attempts)))
        if len(attempts) == 1:
            raise OSError

    with pytest.raises(OSError):
        built_once(name, build)
    for _ in range(2):
        assert (built_once(name, build) / "data").read_text() == "2"
    assert attempts == [[], []]


def test_missing_server_is_reported_with_the_install_command():
    with pytest.raises(MissingServer) as missing:
        find_binary("no-such-server")
    assert "no-such-server" in str(missing.value)
    assert "make services" in str(missing.value)


@pytest.mark.parametrize(("fixture", "place"), [("servers", "tests/integration/"), ("processes", "tests/e2e/")])
def test_server_in_the_unit_tests_is_refused(fixture, place):
    """The test fails before its fixtures start anything. Elsewhere it runs."""
    with pytest.raises(pytest.fail.Exception, match=f"move it to {place}"):
        tiers.pytest_runtest_setup(SimpleNamespace(fixturenames=[fixture], location=("tests/unit/a.py",)))
    tiers.pytest_runtest_setup(SimpleNamespace(fixturenames=[fixture], location=(f"{place}a.py",)))
