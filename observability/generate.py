"""Write every generated file of observability/, grafana/ and runbooks/, or with --check only report outdated ones.

Nothing is written if Prometheus can't read a query, or if a runbook does not state the threshold of its alert.

`python -m observability.generate`, or `make observability`. The rules, their tests, the dashboards, the objectives and
the lists of alerts follow from the files of signals/. The catalogue follows from the instruments that the service
declares.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from grafana import build as dashboards

from observability import alert_lists, catalogue, replica_rules, rules

ROOT = Path(__file__).parent.parent
SOURCES = (rules, dashboards, alert_lists, catalogue, replica_rules)
# Folders without any other file: what no table describes is deleted.
GENERATED_FOLDERS = (rules.PROMETHEUS_FOLDER / "rules", rules.PROMETHEUS_FOLDER / "tests", dashboards.DASHBOARDS_FOLDER)


def main() -> int:
    """Write or check the files and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m observability.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, and exit with 1 if a file is out of date")
    check = parser.parse_args().check
    wanted = {path: text for source in SOURCES for path, text in source.generated_files().items()}
    present = {path for folder in GENERATED_FOLDERS for path in folder.iterdir()} | {
        path for path in wanted if path.exists()
    }
    wrong = sorted(
        path
        for path in wanted.keys() | present
        if path not in wanted or path not in present or path.read_text() != wanted[path]
    )
    faults = [*alert_lists.unstated_thresholds(), *(() if check else unreadable_queries(wanted))]
    for line in faults:
        print(line, file=sys.stderr)
    for path in () if faults else wrong:
        if check:
            print(f"{path.relative_to(ROOT)} is out of date: run `make observability`", file=sys.stderr)
        elif path in wanted:
            path.write_text(wanted[path])
        else:
            path.unlink()
    return int((check and bool(wrong)) or bool(faults))


def unreadable_queries(wanted: Mapping[Path, str]) -> Iterator[str]:
    """Yield what Prometheus can't read of these files: of rules, and of dashboards with the title of the panel."""
    promtool = shutil.which("promtool")
    if promtool is None:
        yield "promtool checks the rules and panels, and is missing: run `make services`"
        return
    with TemporaryDirectory() as folder:
        for path, text in wanted.items():
            if path.parent == dashboards.DASHBOARDS_FOLDER:
                (Path(folder) / path.name).write_text(json.dumps({"groups": [*_queries_as_rules(json.loads(text))]}))
            elif path.parent == rules.PROMETHEUS_FOLDER / "rules":
                (Path(folder) / path.name).write_text(text)
        command = [promtool, "check", "rules", "--lint=none", *sorted(map(str, Path(folder).iterdir()))]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    if checked.returncode:
        yield checked.stderr.replace(f"{folder}/", "").strip()


def _queries_as_rules(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each panel as a group of rules, since promtool reads no dashboards."""
    for panel in (each for row in board["panels"] for each in (row, *row.get("panels", ()))):
        queries = [each["expr"].replace("$__rate_interval", "1m") for each in panel.get("targets", ())]
        yield {"name": panel["title"], "rules": [{"record": "query", "expr": query} for query in queries]}


if __name__ == "__main__":
    sys.exit(main())
