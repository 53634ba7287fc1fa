"""`make observability`: one command writes all that follows from the tables, and checks it."""

import re
import shutil
import subprocess
import sys

import pytest
from observability import alert_lists, generate
from observability.signals import ALERTS

from tests.support.promql import ROOT


def test_every_kind_of_file_is_generated():
    """Nothing that lists alerts, panels or metrics is written by hand."""
    paths = {str(path.relative_to(ROOT)) for source in generate.SOURCES for path in source.generated_files()}
    assert paths >= {
        "observability/prometheus/rules/events.yaml",
        "observability/prometheus/tests/healthy.yaml",
        "observability/kubernetes/prometheusrule.yaml",
        "observability/metrics.md",
        "grafana/dashboards/support-overview.json",
        "runbooks/README.md",
        "runbooks/vi/README.md",
        "runbooks/vi/support-probe-failing.md",
    }


@pytest.mark.long
@pytest.mark.usefixtures("processes")
def test_an_outdated_file_and_one_that_no_table_describes_are_named(tmp_path):
    """The check names both, and no other file of the repository, and changes neither; the command repairs both.

    The check itself is `make lint-generated`.
    """

    def generate(*options):
        command = [sys.executable, "-m", "observability.generate", *options]
        return subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=120)

    for part in ("observability", "grafana", "runbooks", "docs", "src/support_service/oncall"):
        shutil.copytree(ROOT / part, tmp_path / part)
    shutil.copy(ROOT / "README.md", tmp_path)
    stray = tmp_path / "grafana" / "dashboards" / "stray.json"
    stray.write_text("{}")
    index = tmp_path / "runbooks" / "vi" / "README.md"
    whole = index.read_text()
    index.write_text(whole.replace(".md) | critical |", ".md) | warning |"))
    checked = generate("--check")
    assert checked.returncode == 1
    outdated = re.findall(r"^(\S+) is out of date", checked.stderr, re.MULTILINE)
    assert outdated == ["grafana/dashboards/stray.json", "runbooks/vi/README.md"]
    assert generate().returncode == 0
    assert not stray.exists()
    assert index.read_text() == whole


@pytest.mark.usefixtures("promtool")
def test_queries_that_prometheus_cannot_read_are_named():
    """The panel is named with its dashboard, and the rule with its file. Rules and panels of today can be read."""
    files = {path: text for source in generate.SOURCES for path, text in source.generated_files().items()}
    assert [*generate.unreadable_queries(files)] == []
    broken = {path: text.replace("histogram_quantile(", "histogram_quantile((") for path, text in files.items()}
    (found,) = generate.unreadable_queries(broken)
    assert "support-overview.json" in found
    assert re.search(r'\.json: [\d:]+ group "[A-Z]', found)


def test_each_alert_is_in_the_index_with_its_severity_and_text():
    for language, folder in enumerate(("", "vi")):
        page = (alert_lists.RUNBOOKS / folder / "README.md").read_text()
        rows = re.findall(r"^\| \[(\w+)\]\(([a-z0-9-]+\.md)\) \| (\w+) \| (.+) \|$", page, re.MULTILINE)
        wanted = [(each.name, each.runbook, each.severity, each.short[language]) for each in ALERTS]
        assert sorted(rows) == sorted(wanted)


def test_a_page_without_a_place_for_the_list_is_refused(tmp_path):
    """Otherwise an index would silently stay as it is."""
    page = tmp_path / "README.md"
    page.write_text("# Runbooks\n")
    with pytest.raises(ValueError, match="0 places"):
        alert_lists.with_list_replaced(page, "")
