"""Data that all workers of a run share."""

from uuid import uuid4

import pytest


def test_a_folder_is_built_once_and_an_attempt_that_failed_is_repeated(built_once):
    """What the failed attempt left is not seen, and the second user gets the folder as the first built it."""
    name, attempts = uuid4().hex, []

    def build(folder):
        attempts.append(sorted(folder.iterdir()))
        (folder / "data").write_text(str(len(attempts)))
        if len(attempts) == 1:
            raise OSError

    with pytest.raises(OSError):
        built_once(name, build)
    for _ in range(2):
        assert (built_once(name, build) / "data").read_text() == "2"
    assert attempts == [[], []]
