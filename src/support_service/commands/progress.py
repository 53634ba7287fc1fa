"""How long work tells how far it is: a bar on a terminal, one JSON object a line everywhere else."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


class Progress:
    """Counts bytes of so many, and says what happened on the way."""

    def __init__(self, bar: "tqdm[Any] | None") -> None:
        self._bar = bar

    def advance(self, size: int) -> None:
        """So many bytes, or things, more are done."""
        if self._bar is not None:
            self._bar.update(size)

    def say(self, text: str, **fields: Any) -> None:
        """Something worth a line, even on a terminal: the text there, the fields elsewhere."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stdout)
        else:
            print(json.dumps(fields), flush=True)

    def note(self, **fields: Any) -> None:
        """Something that a bar shows by itself, and lines have to say."""
        if self._bar is None:
            print(json.dumps(fields), flush=True)


@contextmanager
def progress(what: str, total: int | None, unit: str = "B") -> Iterator[Progress]:
    """Show progress for the length of a block, in bytes or other units, of a total where one is known."""
    if not sys.stdout.isatty():
        yield Progress(None)
        return
    with tqdm(total=total, desc=what, unit=unit, unit_scale=True, file=sys.stderr, dynamic_ncols=True) as bar:
        yield Progress(bar)
