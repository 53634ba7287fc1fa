"""The tables of a run: players call the service for two cases at each, and a table's calls are one history."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tests.support.histories.checker import SearchTooLong, is_linearizable, shrink
from tests.support.histories.clients import Player, Table, until_answered
from tests.support.histories.model import Operation, opened
from tests.support.promql import ROOT

AT_A_TABLE = 4  # players
UNDECIDED = 0.05  # of the tables, at most: their searches take too long


class Tables:
    """Tables that players open one after the other, until the run is over."""

    def __init__(self, players: Sequence[Player], seed: object, is_over: Callable[[], bool]) -> None:
        self.opened: list[Table] = []
        self.undecided: list[str] = []  # a sentence for each table
        self._players = players
        self._seed = seed
        self._is_over = is_over
        self._numbers = itertools.count()

    def play(self, group: asyncio.TaskGroup) -> None:
        """Let all players play, as tasks of a group."""
        for first in range(0, len(self._players), AT_A_TABLE):
            group.create_task(self._play_together(self._players[first : first + AT_A_TABLE]))

    async def read_all(self) -> None:
        """Read each case again, until there is an answer."""
        for table in self.opened:
            for place in range(len(table.ids)):
                await until_answered(partial(self._players[0].call, table, Operation("read", place)))

    def errors(self) -> Iterator[str]:
        """Yield a report of each table whose history is wrong, and write all its calls to build/."""
        for table in self.opened:
            history, state = table.history(), opened(table.customer, table.customer)
            try:
                if is_linearizable(history, state):
                    continue
            except (SearchTooLong, ValueError) as failure:
                self.undecided.append(f"{table.customer}: {failure}")
                continue
            wrong, others = shrink(history, state)
            file = ROOT / "build" / f"history-{table.customer}.txt"
            file.parent.mkdir(exist_ok=True)
            file.write_text("\n".join(map(str, sorted(history, key=lambda call: call.begin))))
            lines = [
                f"{table.customer}: no order of the calls explains these answers (all are in {file}):",
                *map(str, wrong),
                f"whichever of {len(others)} other writes happened:",
                *map(str, others),
            ]
            yield "\n".join(lines)

    async def _play_together(self, players: Sequence[Player]) -> None:
        while not self._is_over():
            table = await players[0].open_table(f"customer-{self._seed}-{next(self._numbers)}")
            self.opened.append(table)
            await asyncio.gather(*(self._play_at(table, player) for player in players))

    async def _play_at(self, table: Table, player: Player) -> None:
        while not (table.is_full or self._is_over()):
            await player.play(table)


def most_undecided(tables: int) -> float:
    """Return how many of a number of tables may be undecided."""
    return max(1, UNDECIDED * tables)
