"""What only a local disk has: folders, limits of the system, and a thread that makes files durable."""

import asyncio
import errno
import io
import os
import shutil
import threading
from datetime import UTC, datetime, timedelta

import aiofiles.threadpool
import psutil
import pytest

from support_service.attachments.storage.base import UnreadableFile
from support_service.attachments.storage.local import BLOCK_BYTES, SPACE_CHECK_BLOCKS, LocalAttachmentStorage
from support_service.core.errors import Unavailable
from tests.support.attachments.streams import read, stream
from tests.support.calls import eventually, stored_files


def act_on_flush(monkeypatch, moment, act):
    """Do something before the flush of a file, or before that of its folder."""
    fsync, rounds = os.fsync, []

    def flush(descriptor):
        rounds.append(descriptor)
        if len(rounds) == {"file": 1, "folder": 2}[moment]:
            act()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)


def fail_with(code):
    """Return a function that fails as the system does."""

    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("moment", ["file", "folder"])
async def test_upload_cancelled_during_its_flush_leaves_no_file(storage, tmp_path, monkeypatch, moment):
    at_work, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def wait():
        at_work.set()
        go_on.wait(10)
        done.set()

    act_on_flush(monkeypatch, moment, wait)
    task = asyncio.create_task(storage.put(stream(b"hello")))
    await eventually(at_work.is_set)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(done.is_set)
    await eventually(lambda: stored_files(tmp_path) == [])


@pytest.mark.parametrize("moment", ["opened", "written"])
async def test_upload_cancelled_while_a_thread_uses_its_file_leaves_no_file(storage, tmp_path, monkeypatch, moment):
    """The cancellation waits for the thread before it closes the file."""
    at_work, go_on, closed_after = threading.Event(), threading.Event(), []

    def wait():
        at_work.set()
        go_on.wait(10)

    class File(io.FileIO):
        def write(self, data):
            if moment == "written":
                wait()
            return super().write(data)

        def close(self):
            closed_after.append(go_on.is_set())
            super().close()

    def slow(path, mode, **_):
        if moment == "opened":
            wait()
        return File(path, mode)

    monkeypatch.setattr(aiofiles.threadpool, "sync_open", slow)
    task = asyncio.create_task(storage.put(stream(b"x" * BLOCK_BYTES)))
    await eventually(at_work.is_set)
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.to_thread(int)  # what other threads were asked to do before this is done
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stored_files(tmp_path) == []
    assert set(closed_after) == {True}


async def test_upload_whose_temporary_file_was_removed_is_refused(storage, tmp_path):
    """Its last bytes alone must not become the file."""

    async def swept():
        yield b"x" * BLOCK_BYTES
        for path in stored_files(tmp_path):
            path.unlink()
        yield b"y"

    with pytest.raises(Unavailable):
        await storage.put(swept())
    assert stored_files(tmp_path) == []


@pytest.mark.parametrize("moment", ["file", "folder"])
@pytest.mark.parametrize(
    ("number", "error", "code"),
    [
        *((number, Unavailable, "storage_full") for number in (errno.ENOSPC, errno.EDQUOT)),
        *((number, Unavailable, "storage_unavailable") for number in (errno.EIO, errno.EROFS, errno.ESTALE)),
    ],
)
async def test_failing_disk_is_unavailable(storage, tmp_path, monkeypatch, moment, number, error, code):
    """A full disk and an exhausted quota are out of space. No file is left, not even a renamed one."""
    act_on_flush(monkeypatch, moment, fail_with(number))
    with pytest.raises(error) as refusal:
        await storage.put(stream(b"hello"))
    assert (refusal.value.code, stored_files(tmp_path)) == (code, [])


@pytest.mark.parametrize("size", [5, 2 * BLOCK_BYTES])
@pytest.mark.parametrize("reserve", [0, 1])
async def test_missing_directory_is_unavailable(tmp_path, size, reserve):
    """No file counts as missing."""
    storage = LocalAttachmentStorage(tmp_path / "files", reserve)
    await storage.open()
    kept = await storage.put(stream(b"hello"))
    (tmp_path / "files").rename(tmp_path / "elsewhere")
    for call in (
        lambda: storage.put(stream(b"x" * size)),
        lambda: read(storage, kept.key, 0, 5),
        lambda: anext(storage.list()),
    ):
        with pytest.raises(Unavailable) as refusal:
            await call()
        assert refusal.value.code == "storage_unavailable"
    await storage.close()


@pytest.mark.parametrize("size", [5, 2 * BLOCK_BYTES])
async def test_removed_subfolders_are_created_again(storage, tmp_path, size):
    """Their files are missing, the reconcile continues, and the next upload creates the folders."""
    first, second = (f"{folder}/{'1' * 32}" for folder in ("aa", "bb"))  # random keys may share a folder
    for key in (first, second):
        await storage.put(stream(b"hello"), key=key)
    shutil.rmtree((tmp_path / first).parent)
    (tmp_path / "tmp").rmdir()
    with pytest.raises(UnreadableFile) as refusal:
        await read(storage, first, 0, 5)
    assert refusal.value.fault == "missing"
    assert [found.key async for found in storage.list()] == [second]
    assert await storage.delete_unfinished(datetime.now(UTC)) == 0
    again = await storage.put(stream(b"x" * size), key=f"{first[:2]}/{'0' * 32}")
    assert await read(storage, again.key, 0, size) == b"x" * size
    assert (tmp_path / first).parent.stat().st_mode & 0o077 == 0


async def test_files_of_another_program_are_reported_at_the_start(tmp_path, caplog):
    """It may also delete or move attachments. A directory that can't be created stops the start."""
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lost+found" / "file").touch()
    with pytest.raises(Unavailable):
        await LocalAttachmentStorage(tmp_path / "lost+found" / "file").open()
    storage = LocalAttachmentStorage(tmp_path)
    await storage.open()
    await storage.put(stream(b"hello"))
    await storage.open()
    assert caplog.records == []
    (tmp_path / "case-7-photo.jpg").touch()
    await storage.open()
    assert "such as case-7-photo.jpg" in caplog.text
    await storage.close()


@pytest.mark.parametrize(
    ("number", "accessible"), [(errno.EMFILE, True), (errno.EACCES, False), (errno.EIO, True), (errno.EACCES, True)]
)
async def test_read_error_does_not_count_as_damage(storage, monkeypatch, number, accessible):
    """Nor do lost permissions of the directory. Lost permissions of a file do: only a repair makes it readable."""
    kept = await storage.put(stream(b"hello"))
    is_damaged = accessible and number == errno.EACCES
    with monkeypatch.context() as patch:
        patch.setattr("support_service.attachments.storage.local.open_and_read_block", fail_with(number))
        patch.setattr("os.access", lambda *_: accessible)
        with pytest.raises(UnreadableFile if is_damaged else Unavailable) as refusal:
            await read(storage, kept.key, 0, 5)
    assert (refusal.value.fault if is_damaged else refusal.value.code) in ("damaged", "storage_unavailable")
    assert await read(storage, kept.key, 0, 5) == b"hello"


REPLACEMENTS = {
    "link": lambda path: path.symlink_to(path.rename(path.with_suffix(".moved"))),  # to the same bytes
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),  # which nobody writes to
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("replaced_by", REPLACEMENTS)
async def test_replaced_file_is_damaged(storage, tmp_path, replaced_by):
    """At once, for a download and for the reconcile."""
    kept = await storage.put(stream(b"hello"))
    REPLACEMENTS[replaced_by](tmp_path / kept.key)
    for offset, length in ((0, 5), (1, 2), (0, 0)):
        with pytest.raises(UnreadableFile) as refusal:
            await read(storage, kept.key, offset, length)
        assert refusal.value.fault == "damaged"
    assert await storage.stat(kept.key) is None
    assert kept.key not in {found.key async for found in storage.list()}


async def test_processes_with_one_volume_have_its_number(tmp_path):
    """Also processes that look at the same moment. Another volume has another number, which it keeps."""
    numbers = {}
    for name in ("shared", "own"):
        storages = [LocalAttachmentStorage(tmp_path / name) for _ in range(8)]
        await asyncio.gather(*(storage.open() for storage in storages))
        numbers[name] = set(await asyncio.gather(*(asyncio.to_thread(each.volume_number) for each in storages)))
        for storage in storages:
            await storage.close()
    assert [len(found) for found in numbers.values()] == [1, 1]
    assert numbers["shared"] != numbers["own"]
    later = LocalAttachmentStorage(tmp_path / "shared")
    await later.open()
    assert {later.volume_number()} == numbers["shared"]
    await later.close()


async def test_volume_that_is_gone_has_no_number(storage, tmp_path):
    tmp_path.rename(tmp_path.with_name("away"))
    tmp_path.mkdir()
    with pytest.raises(FileNotFoundError):
        storage.volume_number()
    assert list(tmp_path.iterdir()) == []


async def test_disk_reserve_is_kept_free(tmp_path):
    """A file is refused before its first byte, a stream in its middle."""
    plain = LocalAttachmentStorage(tmp_path)
    await plain.open()
    taken = []

    async def endless():
        while True:
            taken.append(None)
            yield b"x" * BLOCK_BYTES

    full = LocalAttachmentStorage(tmp_path, plain.free_bytes() * 2)
    with pytest.raises(Unavailable, match="no room"):
        await full.put(endless())
    reserve = plain.free_bytes() // 2
    tight = LocalAttachmentStorage(tmp_path, reserve)
    with pytest.raises(Unavailable, match="no room"):
        await tight.put(endless(), size_hint=plain.free_bytes())
    assert taken == []
    room = iter([10, 10, -1])
    tight.free_bytes = lambda: next(room) + reserve
    with pytest.raises(Unavailable, match="no room"):
        await tight.put(endless())
    assert len(taken) == 2 * SPACE_CHECK_BLOCKS
    assert stored_files(tmp_path) == []
    for storage in (plain, full, tight):
        await storage.close()


async def test_old_temporary_files_are_deleted(storage, tmp_path):
    """Files that are being written stay."""
    for name, age in (("old", timedelta(hours=2)), ("young", timedelta(minutes=5))):
        path = tmp_path / "tmp" / name
        path.write_bytes(b"half")
        at = (datetime.now(UTC) - age).timestamp()
        os.utime(path, (at, at))
    before = datetime.now(UTC) - timedelta(hours=1)
    assert await storage.delete_unfinished(before, dry_run=True) == 1
    assert len(stored_files(tmp_path)) == 2
    assert await storage.delete_unfinished(before) == 1
    assert [path.name for path in stored_files(tmp_path)] == ["young"]


async def test_failed_first_read_closes_the_file(storage, tmp_path):
    """The storage is Unavailable, and no descriptor stays open. Programs of other users can't reach the file."""
    kept = await storage.put(stream(b"hello"))
    with pytest.raises(Unavailable):
        await read(storage, kept.key, -1, 1)
    assert not [opened for opened in psutil.Process().open_files() if opened.path.endswith(kept.key)]
    for folder in ((tmp_path / kept.key).parent, tmp_path / "tmp"):
        assert folder.stat().st_mode & 0o077 == 0  # whatever the umask is


async def test_deleting_a_path_that_is_a_directory(storage, tmp_path, caplog):
    """An empty one is removed. One with content stays, is logged as an error, and is not retried."""
    files = [await storage.put(stream(b"hello")) for _ in range(2)]
    empty, full = (tmp_path / file.key for file in files)
    for path in (empty, full):
        path.unlink()
        path.mkdir()
    (full / "x").touch()
    for file in files:
        await storage.delete(file.key)
    assert not empty.exists()
    assert full.is_dir()
    (line,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert str(full) in line
