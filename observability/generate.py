"""Write every generated file of observability/, grafana/ and runbooks/, or with --check only report outdated ones.

Runbooks that do not state the threshold of their alert are reported, too.

`python -m observability.generate`, or `make observability`. The rules, their tests, the dashboards, the objectives and
the lists of alerts follow from the files of signals/. The catalogue follows from the instruments that the service
declares.
"""

import argparse
import sys
from pathlib import Path

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
    for path in wrong:
        if check:
            print(f"{path.relative_to(ROOT)} is out of date: run `make observability`", file=sys.stderr)
        elif path in wanted:
            path.write_text(wanted[path])
        else:
            path.unlink()
    unstated = alert_lists.unstated_thresholds()
    for line in unstated:
        print(line, file=sys.stderr)
    return int((check and bool(wrong)) or bool(unstated))


if __name__ == "__main__":
    sys.exit(main())
