"""The checks of `.ci/`: what they run, what they skip, and what they refuse."""

import json
import os
import runpy
import shutil
import subprocess

import pytest

from tests.support.deployments import ROOT

VENDOR = runpy.run_path(str(ROOT / ".ci" / "vendor.py"))
KUBERNETES_TOOLS = runpy.run_path(str(ROOT / ".ci" / "kubernetes_tools.py"))


def write_program(path, *lines):
    """Write a program for the shell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    ("possible", "failing", "status", "last"),
    [("exit 0", "none", 0, "test"), ("exit 0", "image", 1, "services image"), ("echo no; exit 1", "image", 0, "test")],
    ids=["built", "broken", "impossible"],
)
def test_image_is_left_out_only_where_it_cannot_be_built(tmp_path, possible, failing, status, last):
    """A build that fails ends the checks. Where no image can be built, the reason is printed, and tests run."""
    folder = tmp_path / "project"
    write_program(folder / ".ci/image/possible", possible)
    shutil.copy(ROOT / ".ci/run", folder / ".ci/run")
    write_program(tmp_path / "bin/make", 'echo "$@" >> made', f'case "$*" in *{failing}*) exit 1 ;; esac')
    search = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run([folder / ".ci/run"], env=os.environ | search, check=False, capture_output=True, text=True)
    assert done.returncode == status
    assert (folder / "made").read_text().splitlines()[-1] == last
    assert ("The image is not built here: no\n" in done.stdout) == ("no" in possible)


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
    lock.write_text("helm==2")
    for _ in range(2):  # an interrupted installation is repeated
        with pytest.raises(InterruptedError):
            main()
    assert [lock in command for command in runs] == [True, True]
