"""Pages and modules that a program writes, or compares with what it would write."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path


def write_or_check(description: str, texts: Mapping[Path, str]) -> int:
    """Write each file, or with --check only compare it. Return the exit status: 1 if one differs."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing, and exit with 1 if a file is out of date")
    if not parser.parse_args().check:
        for file, text in texts.items():
            file.write_text(text)
        return 0
    outdated = [file for file, text in texts.items() if not (file.exists() and file.read_text() == text)]
    for file in outdated:
        print(f"{file} is out of date: run `make generate`", file=sys.stderr)
    return int(bool(outdated))
