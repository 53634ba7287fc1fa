"""Long tests run if they are named, or with `--all`."""

import shlex
import sys
from unittest.mock import patch

import pytest

from tests.support.plugins import forms


@pytest.mark.parametrize(
    ("arguments", "ran"),
    [
        (".", ["test_short"]),
        (". --all", ["test_long", "test_short"]),
        (". -k 'long or short'", ["test_long", "test_short"]),
        ("test_one.py", ["test_long", "test_short"]),
        ("test_one.py::test_long", ["test_long"]),
    ],
)
def test_long_tests_are_left_out_unless_they_are_named(tmp_path, monkeypatch, arguments, ran):
    """A path below a tier names tests, as an expression does."""
    (tmp_path / "test_one.py").write_text(
        "import pytest\n@pytest.mark.long\ndef test_long(): ...\ndef test_short(): ...\n"
    )
    monkeypatch.setattr(forms, "TIERS", {tmp_path})
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.chdir(tmp_path)
    passed = []

    class Noting:
        def pytest_runtest_logreport(self, report):
            passed.extend([report.location[2]] if report.when == "call" and report.passed else [])

    options = f"--rootdir {tmp_path} --import-mode importlib -p no:cacheprovider -p no:terminal {arguments}"
    with patch.dict(sys.modules):
        pytest.main(shlex.split(options), [forms, Noting()])
    assert passed == ran
