"""Text tables for the output of commands."""

from collections.abc import Sequence
from datetime import UTC, datetime


def print_table(table: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns. The first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def time_cell(moment: datetime) -> str:
    """Return a time in UTC, such as `2026-05-12 08:30:00Z`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
