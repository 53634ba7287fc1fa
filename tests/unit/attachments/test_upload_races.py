"""Group commit of uploads in any order: each upload gets its own outcome, whichever one shares its batch or leaves."""

import asyncio

import pytest

from support_service.attachments.storage import durable_write
from support_service.attachments.storage.durable_write import GroupCommitter, PendingFile
from tests.support.callback_orders import expect_wrong_order, explore, with_bug

UPLOADS = 6


def upload_scenario(monkeypatch, tmp_path, committer_class=GroupCommitter):
    """Small and large files. The disk refuses some, a thread may break, and some requests are cancelled."""

    async def scenario(order):
        refused = {str(number) for number in range(UPLOADS) if order.happens(one_in=5)}
        outcomes = {}
        breaks = order.happens(one_in=4)
        large = {str(number) for number in range(UPLOADS) if order.happens(one_in=4)}

        def finish(_root, files):
            names = {file.name for file in files}
            assert len(names) == 1 or not names & large, "a large file lets others wait"
            if breaks and order.happens(one_in=4):
                raise MemoryError
            return [OSError(name) if (name := file.name) in refused else f"folder of {name}" for file in files]

        monkeypatch.setattr(durable_write, "_finish_batch", finish)
        committer = committer_class(tmp_path)

        async def upload(name):
            await order.pause(most=4)
            file = PendingFile(name, bytearray(), begun_in="unfinished" if name in large else None, folder=None)
            folder = committer.commit(file)
            await asyncio.wait([folder])
            outcomes[name] = folder.exception() or folder.result()

        tasks = [asyncio.create_task(upload(str(number))) for number in range(UPLOADS)]
        await order.cancel_some(tasks)
        await order.ends(tasks)
        for name, outcome in outcomes.items():
            if isinstance(outcome, AssertionError):
                raise outcome
            expected = f"OSError('{name}')" if name in refused else repr(f"folder of {name}")
            assert repr(outcome) in {expected, "MemoryError()"}, ANOTHER

    return scenario


ANOTHER = "an upload gets the outcome of another one"


def test_uploads_get_their_own_outcome_in_any_order(monkeypatch, tmp_path):
    """A failure is that of one file, a broken thread that of its batch, and no upload waits for ever."""
    explore(upload_scenario(monkeypatch, tmp_path))


@pytest.mark.parametrize(
    ("failure", "bug"),
    [
        ("every task waits", ("_complete_batch", "if self._waiting:", "if False:")),
        ("every task waits", ("_start_batch", "[each for each in self._waiting if each[0].begun_in]", "[]")),
        (
            "a large file lets others wait",
            ("_start_batch", "[each for each in self._waiting if not each[0].begun_in]", "self._waiting"),
        ),
        (ANOTHER, ("_start_batch", "files = [file for file, _ in batch]", "files = [file for file, _ in batch[::-1]]")),
    ],
    ids=["next batch not started", "large files forgotten", "large file not alone", "outcomes mixed up"],
)
def test_exploration_finds_bugs_of_group_commit_of_uploads(monkeypatch, tmp_path, failure, bug):
    expect_wrong_order(upload_scenario(monkeypatch, tmp_path, with_bug(GroupCommitter, *bug)), failure)
