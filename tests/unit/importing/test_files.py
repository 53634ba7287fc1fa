"""Files are opened below one folder only, whatever a case names."""

import os
from pathlib import Path

import pytest

from support_service.core.errors import ValidationFailed
from support_service.importing.files import MISSING, open_below
from tests.support.each import each_row

OPEN_FILES = Path("/proc/self/fd")


@pytest.fixture
def folder(tmp_path):
    """A folder with files, links that leave it, and what is not a regular file; a secret lies beside it."""
    folder = tmp_path / "export"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (folder / "a.txt").write_text("a")
    (folder / "inner" / "b.txt").write_text("b")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "link-inside").symlink_to(folder / "a.txt")
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize(("path", "text"), [("a.txt", b"a"), ("inner/b.txt", b"b")])
def test_file_below_the_folder_is_read(folder, path, text):
    """In the folder, or in a folder inside it; the folder itself may be a link."""
    with open_below(folder, path) as file:
        assert file.read() == text
    link = folder.parent / "linked"
    link.symlink_to(folder)
    with open_below(link, path) as file:
        assert file.read() == text


@each_row(
    "path",
    [
        *("../secret", "inner/../../secret", "/etc/passwd", "//etc/passwd", "./a.txt", "inner//b.txt"),
        *("a.txt/", "/", ".."),
        *("link", "link-inside", "up/secret", "pipe", "inner", "a.txt/b", "a.txt\0", "\ud800", "x" * 300),
    ],
)
def test_other_paths_are_refused(folder, path):
    """No `..`, no absolute path, no link, nothing but regular files; a pipe does not block."""
    with pytest.raises(ValidationFailed) as refused:
        open_below(folder, path)
    assert refused.value.reason != MISSING
    assert refused.value.errors[0].field == "attachments"
    assert "secret" not in path or "secret" in str(refused.value)


def test_missing_file_is_told_apart(folder):
    for path in ("none.txt", "none/a.txt", "inner/none"):
        with pytest.raises(ValidationFailed, match="does not exist") as refused:
            open_below(folder, path)
        assert refused.value.reason == MISSING


def test_no_descriptor_is_left_open(folder):
    before = len(list(OPEN_FILES.iterdir()))
    for path in ("a.txt", "inner/b.txt", "inner/none", "link", "pipe", "up/secret"):
        try:
            open_below(folder, path).close()
        except ValidationFailed:
            continue
    assert len(list(OPEN_FILES.iterdir())) == before
