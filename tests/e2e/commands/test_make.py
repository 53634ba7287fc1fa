"""The commands of the Makefile, as a developer types them."""

import os
import re
import subprocess

import pytest

from tests.support.promql import ROOT

pytestmark = pytest.mark.usefixtures("processes")


def run(*command):
    """Run a command as in a new shell, outside of CI and of any `make`; return its exit status, output and errors."""
    variables = {name: os.environ[name] for name in ("HOME", "PATH")}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def test_long_commands_and_benchmarks_are_listed_apart():
    """What takes minutes does not stand among the commands of every day."""
    _, listed, _ = run("make")
    heading, sections = "", {}
    for line in listed.splitlines():
        if (found := re.match(r"  make ([a-z-]+) ", line)) is None:
            heading = line
        else:
            sections.setdefault(heading, []).append(found[1])
    assert list(sections) == ["Every day", "Minutes to hours", "Benchmarks", "Now and then"]
    assert {"run", "test", "test-fast", "lint"} <= set(sections["Every day"])
    assert {"test-long", "drill", "coverage"} <= set(sections["Minutes to hours"])
    assert [name for name in sections["Benchmarks"] if not name.startswith("bench")] == ["slow-clients"]


@pytest.mark.parametrize(("target", "allowed"), [("lint", ""), ("test", ""), ("services", "services")])
def test_only_services_may_install_debian_packages(target, allowed):
    """Other commands run without sudo."""
    _, shown, _ = run("make", "--dry-run", "--print-data-base", target)
    assert re.findall("^INSTALL_DEBIAN_PACKAGES := ?(.*)$", shown, re.MULTILINE) == [allowed]


def test_environment_is_made_again_for_another_python(tmp_path):
    """Packages of two versions never mix. Without PYTHON=…, the environment keeps the Python that it has."""
    other = tmp_path / "python3.99"
    other.write_text("#!/bin/sh\necho 3 99\n")
    other.chmod(0o755)
    chosen = ((), ("PYTHON=.venv/bin/python",), (f"PYTHON={other}",))
    cleared = ["venv --clear .venv" in run("make", "--dry-run", "install", *each)[1] for each in chosen]
    assert cleared == [False, False, True]
    _, shown, _ = run("make", "--dry-run", "--always-make", "wheel")
    assert set(re.findall(r"^(\S+) -m venv ", shown, re.MULTILINE)) == {".venv/bin/python"}


def test_missing_packages_are_named():
    """With the command that installs them; nothing is installed."""
    status, _, errors = run(".ci/debian-packages", "no-such-package")
    assert status == 1
    assert errors.startswith("Missing Debian packages: no-such-package. Install them, or name 'services' first")


def test_seed_repeats_an_order_of_a_run_that_is_recorded():
    """`ARGS` picks tests, and a run of some tests is not recorded."""
    _, shown, _ = run("make", "--dry-run", "test", "SEED=7")
    assert re.search(" --randomly-seed=7 .* --costs=build/costs.json *$", shown)


def test_port_of_the_demo_is_chosen(monkeypatch):
    """`make run PORT=9000` hands the port on. `ARGS` of a `make test` around these tests is not handed on."""
    monkeypatch.setenv("ARGS", "-k demo")
    _, shown, _ = run("make", "--dry-run", "run", "PORT=9000")
    assert re.search("support-service demo --port 9000 *$", shown)


@pytest.mark.long
def test_wrong_path_is_not_found():
    """Workers would report that no test ran, and not why."""
    status, _, errors = run(".venv/bin/pytest", "-n", "2", "tests/unit/no_such_test.py")
    assert (status, errors) == (4, "ERROR: not found: tests/unit/no_such_test.py\n\n")
