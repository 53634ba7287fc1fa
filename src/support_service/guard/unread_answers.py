"""Bounds on the bytes of answers that clients have not read: in total, and for each caller.

An answer stays in memory until the client has read nearly all of it. Each caller may keep many connections, so their
answers need a bound of their own. The bytes in the kernel's buffers do not count.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from support_service.core.errors import problem

# Bytes that count for an answer that its handler streams: a block of a file, and what the transport takes before the
# handler has to wait.
STREAM_BYTES = 320 * 1024
# Bytes of an answer that fits as a whole into the buffer of a transport without unread bytes (64 KiB): no other request
# runs between its beginning and its end.
SENT_AT_ONCE_BYTES = 16 * 1024
# Bytes that count for an answer that goes on for hours with little in it. What its client leaves unread is limited.
OPEN_STREAM_BYTES = 4 * 1024
RETRY_AFTER = 1  # seconds
# Seconds in which a group that has reached its bound is not counted again: a count visits each of its answers.
COUNT_INTERVAL = 0.1
ADDRESS_PREFIX = "address "  # of the caller that is a client's address
PRINCIPAL_PREFIX = "principal "  # of the caller that has authenticated


class AnsweredConnection(Protocol):
    """The interface of a connection that the bounds use."""

    def unread_bytes(self) -> int:
        """Return the bytes that the client has not read yet."""


@dataclass(slots=True, eq=False)
class _AnswerGroup:
    """Answers that count against the same bound."""

    name: str
    limit: int
    unread: int = 0  # upper bound, because clients read meanwhile
    answers: set["_Answer"] = field(default_factory=set)
    count_again_at: float = 0.0  # after a count that has found the bound exceeded


@dataclass(slots=True, eq=False)
class _Answer:
    """The answer of one connection, with the rest of the answer before it."""

    connection: AnsweredConnection
    groups: tuple[_AnswerGroup, ...]
    size: int
    in_progress: bool = True  # it is in memory as a whole; after that, only what the transport has left

    def resize(self, size: int) -> None:
        """Change the size in every group."""
        for group in self.groups:
            group.unread += size - self.size
        self.size = size


class UnreadAnswers:
    """The answers that clients have not read.

    An answer counts in full until it was handed to the transport. The part that clients have read of the rest is
    subtracted only when a bound seems to be exceeded. So a request costs a few dictionary operations.
    """

    def __init__(self, max_total: int, max_per_caller: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Set the bounds, in bytes."""
        self._clock = clock
        self._total = _AnswerGroup("total", max_total)
        self._max_per_caller = max_per_caller
        self._by_caller: dict[str, _AnswerGroup] = {}
        self._by_connection: dict[AnsweredConnection, _Answer] = {}

    @property
    def callers(self) -> frozenset[str]:
        """The callers that have an unread answer."""
        return frozenset(self._by_caller)

    def check(self, callers: Sequence[str], size: int = 0, *, in_total: bool = True) -> None:
        """Check whether an answer of `size` bytes to these callers fits; 0 if its size is not known yet.

        An answer of any size fits if nothing else is unread. Raises RateLimited for a caller, and Unavailable in total.
        """
        if not self._by_connection:
            return
        for caller in callers:
            group = self._by_caller.get(caller)
            if group is not None and self._is_exceeded(group, size):
                raise problem(
                    "answers_unread",
                    f"More than {group.limit} bytes of your answers are unread; read them before you ask for more.",
                    retry_after=RETRY_AFTER,
                )
        if in_total and self._is_exceeded(self._total, size):
            raise problem("overloaded", "Clients leave too many answers unread; try again in a moment.")

    def begin(
        self,
        connection: AnsweredConnection,
        callers: Sequence[str],
        size: int | None,
        *,
        is_streamed: bool,
        max_streamed_bytes: int = STREAM_BYTES,
    ) -> None:
        """Count an answer that is about to be sent; its size is in bytes, or None if it is not known.

        An answer that its handler streams counts `max_streamed_bytes` at most.
        """
        self.remove(connection)  # the rest of the answer before is in `unread_bytes`
        if is_streamed:
            size = max_streamed_bytes if size is None else min(size, max_streamed_bytes)
        groups = (self._total, *(self._group_of(caller) for caller in callers))
        answer = self._by_connection[connection] = _Answer(connection, groups, 0)
        answer.resize(connection.unread_bytes() + (size or 0))
        for group in groups:
            group.answers.add(answer)

    def is_read(self, connection: AnsweredConnection) -> bool:
        """Return True if the client has read all answers of the connection."""
        return connection not in self._by_connection and not connection.unread_bytes()

    def end(self, connection: AnsweredConnection, callers: Sequence[str] = ()) -> None:
        """Note that an answer was handed to the transport as a whole: from now on only what is unread counts."""
        answer = self._by_connection.get(connection)
        if answer is None:
            if not connection.unread_bytes():
                return
            self.begin(connection, callers, 0, is_streamed=False)
            answer = self._by_connection[connection]
        answer.in_progress = False
        if unread := connection.unread_bytes():
            answer.resize(unread)
        else:
            self.remove(connection)

    def remove(self, connection: AnsweredConnection) -> None:
        """Stop counting the answer of a connection, which has ended or begins its next answer."""
        answer = self._by_connection.pop(connection, None)
        if answer is None:
            return
        answer.resize(0)
        for group in answer.groups:
            group.answers.discard(answer)
            if not group.answers and group is not self._total:
                del self._by_caller[group.name]

    def _group_of(self, caller: str) -> _AnswerGroup:
        group = self._by_caller.get(caller)
        if group is None:
            group = self._by_caller[caller] = _AnswerGroup(caller, self._max_per_caller)
        return group

    def _is_exceeded(self, group: _AnswerGroup, size: int) -> bool:
        """Return True if so many bytes more would exceed the limit, after subtracting what clients have read.

        While the limit is exceeded, what they have read is subtracted once in `COUNT_INTERVAL`.
        """
        if group.unread + size < group.limit:
            return False
        now = self._clock()
        if now >= group.count_again_at:
            for answer in group.answers:
                if not answer.in_progress:
                    answer.resize(min(answer.size, answer.connection.unread_bytes()))
        elif group.unread > 0:
            return True
        exceeded = group.unread > 0 and group.unread + size >= group.limit
        group.count_again_at = now + COUNT_INTERVAL if exceeded else 0.0
        return exceeded
