"""Files that survive a power cut."""

import os
from pathlib import Path

from support_service.platform.durable_files import flush_file, name_durably


def test_file_gets_its_name_after_its_bytes_and_before_its_folder_is_flushed(tmp_path, monkeypatch):
    """A power cut leaves all bytes under the name, or what the name stood for before."""
    steps = []

    def note(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append((path.name, {each.name: each.read_text() for each in tmp_path.iterdir()}))

    monkeypatch.setattr(os, "fsync", note)
    (tmp_path / "log").write_text("old")
    with (tmp_path / "log.part").open("w") as file:
        file.write("new")
        flush_file(file)
    name_durably(tmp_path / "log.part", tmp_path / "log")
    assert steps == [("log.part", {"log": "old", "log.part": "new"}), (tmp_path.name, {"log": "new"})]
