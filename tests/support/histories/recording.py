"""The histories of a run: each has the calls of a few clients about two cases."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.support.histories.checker import Call, SearchTooLong, is_linearizable, shrink
from tests.support.histories.clients import Caller, History, until_answered
from tests.support.histories.model import Operation, opened
from tests.support.promql import ROOT

BUILD = ROOT / "build"
CALLERS = 4  # of a history, at the same time
UNDECIDED = 0.05  # of the histories, at most: their searches take too long


class Histories:
    """Histories that callers begin one after the other, until the run is over.

    `name` tells the run from others: the names of its customers have it, and so do the files in `folder`.
    """

    def __init__(self, callers: Sequence[Caller], name: str, is_over: Callable[[], bool], folder: Path = BUILD) -> None:
        self.begun: list[History] = []
        self.undecided: list[str] = []  # a sentence for each history
        self._callers = callers
        self._name = name
        self._is_over = is_over
        self._folder = folder
        self._numbers = itertools.count()

    def record(self, group: asyncio.TaskGroup) -> None:
        """Let all callers call the service, as tasks of a group."""
        for first in range(0, len(self._callers), CALLERS):
            group.create_task(self._record_histories(self._callers[first : first + CALLERS]))

    async def read_all(self) -> None:
        """Read each case again, until there is an answer."""
        for history in self.begun:
            for place in range(len(history.ids)):
                await until_answered(partial(self._callers[0].call, history, Operation("read", place)))

    def errors(self) -> Iterator[str]:
        """Yield a report of each wrong history. All calls of a history that is not known to be right are in a file."""
        for history in self.begun:
            calls, state = history.recorded(), opened(history.customer, history.customer)
            try:
                if is_linearizable(calls, state):
                    continue
            except (SearchTooLong, ValueError) as failure:
                self.undecided.append(f"{history.customer}: {failure} (all calls are in {self._write(history, calls)})")
                continue
            file = self._write(history, calls)
            wrong, others = shrink(calls, state)
            lines = [
                f"{history.customer}: no order of the calls explains these answers (all are in {file}):",
                *map(str, wrong),
                f"whichever of {len(others)} other writes happened:",
                *map(str, others),
            ]
            yield "\n".join(lines)

    def _write(self, history: History, calls: Iterable[Call]) -> Path:
        file = self._folder / f"history-{history.customer}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(map(str, sorted(calls, key=lambda call: call.begin))))
        return file

    async def _record_histories(self, callers: Sequence[Caller]) -> None:
        while not self._is_over():
            history = await callers[0].begin_history(f"customer-{self._name}-{next(self._numbers)}")
            self.begun.append(history)
            await asyncio.gather(*(self._call_until_full(history, caller) for caller in callers))

    async def _call_until_full(self, history: History, caller: Caller) -> None:
        while not (history.is_full or self._is_over()):
            await caller.call_by_chance(history)


def most_undecided(histories: int) -> float:
    return max(1, UNDECIDED * histories)
