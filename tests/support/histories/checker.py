"""Whether a history of concurrent calls could have come from a service that does one thing after the other.

This is the search of Wing and Gong. It takes a call that no unfinished call must precede, and applies it to the model.
It goes on if the answer agrees, and otherwise tries another call. What is left of a search follows from the calls done
and the state, so each such pair is visited once (Lowe). A call without an answer may have happened at any time after
its begin, or never.

Calls that do not overlap keep their order. So a client reads what it has written, and no read shows less than an
earlier one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from tests.support.histories.model import Operation, State, agrees, apply, is_past

MAX_CONCURRENT = 50
MAX_STEPS = 200_000
SHRINKING = (500, 5_000)  # steps that a search may take: first few, so that the others have less to search in


@dataclass(frozen=True)
class Call:
    """An operation of a client, with the seconds of its begin and end. Without an answer it never ends."""

    client: str
    operation: Operation
    begin: float
    end: float = inf
    answer: Any = None

    @property
    def is_answered(self) -> bool:
        """Whether the client knows what has happened."""
        return self.end < inf

    def __str__(self) -> str:
        name, place, value, version, key = self.operation
        parts = [f"case {place}: {name}", *([] if value in (None, ()) else [repr(value)])]
        parts += [f"if version {version}"] if version else []
        parts += [f"key {key}"] if key else []
        end = f"{self.end:9.3f}" if self.is_answered else " " * 9
        answer = f" -> {self.answer}" if self.is_answered else ""
        return f"{self.begin:9.3f} to {end}  {self.client:10} {' '.join(parts)}{answer}"


class SearchTooLong(Exception):
    """The search took more steps than it may; nothing is known of the history."""


def is_linearizable(calls: Iterable[Call], state: State, max_steps: int = MAX_STEPS) -> bool:
    """Return whether there is an order of the calls in which each answer is that of the model, from a state on.

    Raises SearchTooLong, and ValueError if too many calls are concurrent, or one splits a case.
    """
    calls = [*calls]
    if any(call.operation.name == "split" for call in calls):
        raise ValueError("histories with splits can't be checked: `is_past` counts on texts that stay")
    calls = sorted((call for call in calls if call.is_answered or not call.operation.is_read), key=lambda c: c.begin)
    answered = sum(1 << number for number, call in enumerate(calls) if call.is_answered)
    seen: set[tuple[int, State]] = set()
    stack = [(0, state)]
    while stack:
        done, state = node = stack.pop()
        if done & answered == answered:
            return True
        if node in seen:
            continue
        seen.add(node)
        if len(seen) > max_steps:
            raise SearchTooLong(f"the search takes more than {max_steps} steps")
        following = _next_calls(calls, done)
        if any(is_past(state, call.operation, call.answer) for _, call in following):
            continue
        # The stack takes the last one first: calls that are answered, in the order of their ends.
        for number, call in sorted(following, key=lambda each: -each[1].end):
            after = _after(state, call)
            if after is not None:
                stack.append((done | 1 << number, after))
    return False


def _next_calls(calls: Sequence[Call], done: int) -> list[tuple[int, Call]]:
    """Return the calls that may come next: no other call that is not done has ended before they began."""
    found, first_end = [], inf
    for number, call in enumerate(calls):
        if call.begin > first_end:
            break
        if not done >> number & 1:
            found.append((number, call))
            first_end = min(first_end, call.end)
    if len(found) > MAX_CONCURRENT:
        raise ValueError(f"{len(found)} calls are concurrent; at most {MAX_CONCURRENT} can be checked")
    return [(number, call) for number, call in found if call.begin <= first_end]


def _after(state: State, call: Call) -> State | None:
    """Return the state after a call, or None if it can't come next: it would change nothing, or answer otherwise."""
    after, expected = apply(state, call.operation)
    if not call.is_answered:
        return after if after != state else None
    return after if agrees(expected, call.answer) else None


def shrink(calls: Sequence[Call], state: State) -> tuple[list[Call], list[Call]]:
    """Return a smallest wrong part of a history that is not linearizable, and the writes that may have happened.

    The answers of the part contradict each other, whichever of those writes happened.
    Each step keeps that true. A beginning of a linearizable history is linearizable.
    So is the history without a read, or with a write whose answer is lost.
    """
    ends = sorted(call.end for call in calls if call.is_answered)
    low, high = 0, len(ends) - 1  # the beginning that ends with ends[high] is wrong
    while low < high:
        middle = (low + high) // 2
        is_wrong = _is_wrong(_beginning(calls, ends[middle]), state, MAX_STEPS)
        low, high = (low, middle) if is_wrong else (middle + 1, high)
    part = _beginning(calls, ends[high])
    for max_steps in SHRINKING:
        for call in sorted((call for call in part if call.is_answered), key=lambda call: call.begin):
            others = [each for each in part if each is not call]
            smaller = others if call.operation.is_read else [*others, _without_answer(call)]
            if _is_wrong(smaller, state, max_steps):
                part = smaller
    wrong = sorted((call for call in part if call.is_answered), key=lambda call: call.begin)
    return wrong, [call for call in part if not call.is_answered]


def _beginning(calls: Iterable[Call], until: float) -> list[Call]:
    begun = [call for call in calls if call.begin <= until]
    return [call if call.end <= until else _without_answer(call) for call in begun]


def _without_answer(call: Call) -> Call:
    return replace(call, end=inf, answer=None)


def _is_wrong(calls: Sequence[Call], state: State, max_steps: int) -> bool:
    """Return whether a search of so many steps shows that a history is not linearizable."""
    try:
        return not is_linearizable(calls, state, max_steps)
    except (SearchTooLong, ValueError):
        return False
