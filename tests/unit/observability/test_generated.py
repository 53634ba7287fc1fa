"""`make observability`: one command writes all that follows from the tables, and checks it."""

import re
import subprocess
import sys

import pytest
from observability import alert_lists, generate, rules

from tests.support.promql import ROOT

pytestmark = pytest.mark.usefixtures("processes")


def check(root=ROOT):
    """Run the check that `make lint` runs; return its exit status and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "observability.generate", "--check"],
        cwd=root,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stderr


def test_generated_files_are_those_of_the_tables():
    """Rules, rule tests, dashboards, lists of alerts and the catalogue."""
    assert check() == (0, "")


def test_every_kind_of_file_is_generated():
    """Nothing that lists alerts, panels or metrics is written by hand."""
    paths = {str(path.relative_to(ROOT)) for source in generate.SOURCES for path in source.files()}
    assert paths >= {
        "observability/prometheus/rules/events.yaml",
        "observability/prometheus/tests/faults.yaml",
        "observability/kubernetes/prometheusrule.yaml",
        "observability/metrics.md",
        "grafana/dashboards/support-overview.json",
        "runbooks/README.md",
        "runbooks/vi/README.md",
        "runbooks/vi/support-probe-failing.md",
        "docs/operations/monitoring.md",
    }


def test_an_outdated_file_and_one_that_no_table_describes_are_named(tmp_path):
    """The check names both and changes neither; the command repairs both."""
    for part in ("observability", "grafana", "runbooks", "docs"):
        subprocess.run(["cp", "-r", ROOT / part, tmp_path / part], check=True)
    stray = tmp_path / "grafana" / "dashboards" / "stray.json"
    stray.write_text("{}")
    index = tmp_path / "runbooks" / "vi" / "README.md"
    index.write_text(index.read_text().replace("| critical |", "| warning |"))
    status, told = check(tmp_path)
    assert status == 1
    assert re.findall(r"^(\S+) is out of date", told, re.MULTILINE) == [
        "grafana/dashboards/stray.json",
        "runbooks/vi/README.md",
    ]
    subprocess.run([sys.executable, "-m", "observability.generate"], cwd=tmp_path, check=True, timeout=120)
    assert check(tmp_path) == (0, "")
    assert not stray.exists()


@pytest.mark.parametrize("language", [0, 1], ids=["en", "vi"])
def test_each_alert_is_in_the_index_with_its_severity_and_text(language):
    page = alert_lists.RUNBOOKS / ("vi" if language else "") / "README.md"
    rows = re.findall(r"^\| \[(\w+)\]\(([a-z-]+\.md)\) \| (\w+) \| (.+) \|$", page.read_text(), re.MULTILINE)
    wanted = [(each.name, each.runbook, each.severity, each.short[language]) for each in rules.ALERTS]
    assert sorted(rows) == sorted(wanted)


def test_a_page_without_a_place_for_the_list_is_refused(tmp_path):
    """Otherwise an index would silently stay as it is."""
    page = tmp_path / "README.md"
    page.write_text("# Runbooks\n")
    with pytest.raises(ValueError, match="0 places"):
        alert_lists.listed(page, "")
