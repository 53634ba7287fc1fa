"""What a test costs."""

import subprocess
import sys

import pytest

from tests.support.times import Usage


@pytest.mark.usefixtures("processes")
def test_cost_of_a_test_includes_its_processes():
    """Also while they run: a server ends long after its test."""
    before = Usage.now()
    command = [sys.executable, "-c", "for _ in range(20_000_000): pass\nprint(flush=True)\ninput()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        used = before.until_now()
        process.communicate(b"\n")
    assert used.cpu > 0.1
    assert before.until_now().cpu >= used.cpu
