"""Files that survive a power cut."""

import os
import resource
import stat
from pathlib import Path

import pytest

from support_service.core.errors import SupportError
from support_service.platform.durable_files import NewFile


def test_file_gets_its_name_after_its_bytes_and_before_its_folder_is_flushed(tmp_path, monkeypatch):
    """A power cut leaves all bytes under the name, or what the name stood for before."""
    steps = []

    def note(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append((path.name, {each.name: each.read_text() for each in tmp_path.iterdir()}))

    monkeypatch.setattr(os, "fsync", note)
    (tmp_path / "log").write_text("old")
    with NewFile(tmp_path / "log", replaces=True) as new:
        new.file.write(b"new")
        new.finish()
    assert steps == [("log.part", {"log": "old", "log.part": "new"}), (tmp_path.name, {"log": "new"})]
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_unfinished_file_is_deleted(tmp_path):
    """Unless it is kept for an operator."""
    with NewFile(tmp_path / "log") as new:
        new.file.write(b"new")
    assert [*tmp_path.iterdir()] == []
    with NewFile(tmp_path / "log") as new:
        new.keep()
    assert [*tmp_path.iterdir()] == [new.part]


@pytest.mark.parametrize("name", ["log", "log.part"])
def test_two_processes_never_write_one_file(tmp_path, name):
    """The second one is refused, and the first one goes on. Links of others are neither used nor removed."""
    with NewFile(tmp_path / "log") as new:
        new.file.write(b"first")
        with pytest.raises(SupportError, match=r"log\.part already"), NewFile(tmp_path / "log"):
            pass
        new.finish()
    with pytest.raises(SupportError, match="log already"), NewFile(tmp_path / "log"):
        pass
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"log": "first"}
    (tmp_path / "log").unlink()
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SupportError), NewFile(tmp_path / "log"):
        pass
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("size", [2_000, 200_000])
def test_error_of_a_write_names_the_file(tmp_path, size):
    """The system's own text has no name. The limit on a file's size is met by the same calls as a full disk."""

    def write():
        with NewFile(tmp_path / "log") as new:
            new.file.write(b"x" * size)
            new.finish()

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*log\.part"):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [*tmp_path.iterdir()] == []
