"""Frames of Server-Sent Events. Pure.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import random
from typing import Any

import pydantic_core

RETRY_MILLISECONDS = 2000  # ms that a client waits before it connects again
RETRY_RANGE_AT_SHUTDOWN = (500, 4000)  # ms; different for each client, so that they do not all come at the same moment


def event_frame(name: str, data: Any, position: str | None = None) -> bytes:
    """Return the frame of an event with JSON data, which has no line breaks."""
    head = b"" if position is None else b"id: %b\n" % position.encode()
    return b"%bevent: %b\ndata: %b\n\n" % (head, name.encode(), pydantic_core.to_json(data, inf_nan_mode="null"))


def comment_frame(text: str, position: str | None = None) -> bytes:
    """Return a comment. With a position, it also tells the client that it has received everything up to there."""
    return b": %b\n%b\n" % (text.encode(), b"" if position is None else b"id: %b\n" % position.encode())


def retry_frame(milliseconds: int) -> bytes:
    """Return the frame that sets the time after which a client connects again."""
    return b"retry: %d\n\n" % milliseconds


def shutdown_frame() -> bytes:
    """Return the last frame of a stream whose replica shuts down."""
    return retry_frame(random.randint(*RETRY_RANGE_AT_SHUTDOWN))
