"""The measurement of rows and bytes stores real cases and reads the sizes of every table."""

import subprocess
import sys

import pytest
from benchmarks.row_sizes import FOLLOW_UPS

from tests.support.promql import ROOT

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.long]


def test_rows_of_a_case_are_counted():
    """One case, one row; each message, one row; three references."""
    command = [sys.executable, "-m", "benchmarks.row_sizes", "--cases", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in done.stdout.splitlines()}
    assert rows["tickets"] == "1.00"
    assert rows["messages"] == f"{1 + FOLLOW_UPS:.2f}"
    assert rows["ticket_references"] == "3.00"
