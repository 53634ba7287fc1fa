"""Text tables for the output of commands."""

from collections.abc import Sequence


def print_table(table: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns. The first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
