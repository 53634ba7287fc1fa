"""The checks of `.ci/`: what they run, what they skip, and what they refuse."""

import os
import shutil
import subprocess

import pytest

from tests.support.deployments import ROOT


def write_program(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    ("possible", "failing", "status", "last"),
    [
        ("exit 0", "none", 0, "test-budget"),
        ("exit 0", "image", 1, "services image"),
        ("echo no; exit 1", "image", 0, "test-budget"),
    ],
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
