"""Output of commands: progress, summaries and tables. On a terminal it is text, otherwise one JSON object per line."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


class Progress:
    """A progress display that counts units, bytes by default, and prints messages."""

    def __init__(self, bar: "tqdm[Any] | None") -> None:
        self._bar = bar

    def advance(self, size: int) -> None:
        """Add `size` completed units."""
        if self._bar is not None:
            self._bar.update(size)

    def print(self, text: str = "", /, **fields: Any) -> None:
        """Print a line as `print_line` does. Without a text the bar says enough on a terminal."""
        if self._bar is None:
            print_line(text, **fields)
        elif text:
            self._bar.write(text, file=sys.stdout)


@contextmanager
def show_progress(what: str, total: int | None, unit: str = "B") -> Iterator[Progress]:
    """Show progress during a `with` block. `total` is in `unit`, and None if it is unknown."""
    if not sys.stdout.isatty():
        yield Progress(None)
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit=unit, unit_scale=True, file=sys.stderr, dynamic_ncols=True) as bar:
        yield Progress(bar)


def print_line(text: str, /, **fields: object) -> None:
    """Print what was found or done: `text` on a terminal, otherwise `fields` as a line of JSON."""
    print(text if sys.stdout.isatty() else json.dumps(fields), flush=True)


def print_summary(text: str, **fields: object) -> None:
    """Print the last line of a command."""
    print_line(text, summary=True, **fields)


def print_wait(text: str) -> None:
    """Print to stderr what a command waits for: stdout has its result."""
    print(f"support-service: {text}", file=sys.stderr, flush=True)


def print_table(table: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns. The first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def time_cell(moment: datetime) -> str:
    """Return a time in UTC, such as `2026-05-12 08:30:00Z`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
