"""A page that a program writes, or compares with what it would write."""

import argparse
import sys
from pathlib import Path


def write_or_check(page: Path, text: str, description: str) -> int:
    """Write a page; with --check on the command line, only compare it. Return the exit status: 1 if it differs."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of date")
    if not parser.parse_args().check:
        page.write_text(text)
        return 0
    if page.exists() and page.read_text() == text:
        return 0
    print(f"{page} is out of date: run `make generate`", file=sys.stderr)
    return 1
