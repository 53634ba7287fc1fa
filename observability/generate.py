"""Write every generated file of observability/, grafana/ and runbooks/; with --check, only report outdated ones.

`python -m observability.generate`, or `make observability`. An alert, a panel and an instrument are each declared in
one table; the rules, their tests, the dashboards, the lists of alerts and the catalogue of metrics follow from them.
"""

import argparse
import sys
from pathlib import Path

from grafana import generate as dashboards

from observability import alert_lists, catalogue, prometheus_rule, rules

ROOT = Path(__file__).parent.parent
SOURCES = (rules, prometheus_rule, dashboards, alert_lists, catalogue)
# Folders without any other file: what no table describes is deleted.
GENERATED_FOLDERS = (rules.HERE / "rules", rules.HERE / "tests", dashboards.FOLDER)


def main() -> int:
    """Write or check the files and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m observability.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    check = parser.parse_args().check
    wanted = {path: text for source in SOURCES for path, text in source.files().items()}
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
    return int(check and bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
