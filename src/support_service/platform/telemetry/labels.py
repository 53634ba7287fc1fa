"""The label value that stands for every value outside of a closed vocabulary.

A value from a client (a channel, a content type) goes through `known_or_other`, so that clients can't create series.
"""

from collections.abc import Collection

OTHER = "other"


def known_or_other(value: str, vocabulary: Collection[str]) -> str:
    """Return the value if the vocabulary contains it, else `other`."""
    return value if value in vocabulary else OTHER
