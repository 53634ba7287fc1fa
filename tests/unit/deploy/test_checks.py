"""The checks of `.ci/`: what they run, what they skip, and what they refuse."""

import json
import runpy

import pytest

from tests.support.deployments import ROOT

VENDOR = runpy.run_path(str(ROOT / ".ci" / "vendor.py"))
KUBERNETES_TOOLS = runpy.run_path(str(ROOT / ".ci" / "kubernetes_tools.py"))


def test_copies_have_the_locked_versions(tmp_path, monkeypatch):
    """An update of a package in package-lock.json is refused until its copy is updated."""
    other_versions = VENDOR["other_versions"]
    folder, packages = next(iter(VENDOR["MODULES"].items()))
    assert other_versions(folder, packages) == []
    lock = json.loads(VENDOR["LOCK"].read_text())
    lock["packages"]["node_modules/lit-html"]["version"] = "99.0.0"
    path = tmp_path / "package-lock.json"
    path.write_text(json.dumps(lock))
    monkeypatch.setitem(other_versions.__globals__, "LOCK", path)
    (problem,) = other_versions(folder, packages)
    assert problem.endswith(" does not have lit-html 99.0.0, which package-lock.json names: run `make vendor`")


def test_changed_lock_of_the_kubernetes_tools_is_installed(tmp_path, monkeypatch):
    """Programs of another version do not stay because they are there."""
    main = KUBERNETES_TOOLS["main"]
    runs = []
    lock, installed = tmp_path / "new.lock", tmp_path / "installed.lock"
    for path in (lock, installed):
        path.write_text("helm==1")

    def download(command, **_):
        runs.append(command)
        raise InterruptedError

    monkeypatch.setattr("subprocess.run", download)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("sys.platform", "linux")
    for name, value in {"LOCK": lock, "INSTALLED_LOCK": installed, "has_files": lambda: True}.items():
        monkeypatch.setitem(main.__globals__, name, value)
    assert (main(), runs) == (0, [])
    for version in (2, 1):  # an interrupted installation is repeated, also if the lock is the one before again
        lock.write_text(f"helm=={version}")
        with pytest.raises(InterruptedError):
            main()
    assert [lock in command for command in runs] == [True, True]
