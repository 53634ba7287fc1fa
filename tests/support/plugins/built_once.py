"""Data that takes seconds to build, once for all workers of a run: the first that needs it builds it, others wait."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = pytest.StashKey[Path]()
INPUT = "built_once"  # where the run tells its workers the folder


@pytest.hookimpl(trylast=True)  # after another plugin chose the place of temporary directories
def pytest_configure(config: pytest.Config) -> None:
    """Create the folder, or, in a worker, take that of the run."""
    given = getattr(config, "workerinput", {}).get(INPUT)
    if given is None:
        given = tempfile.mkdtemp(prefix="support-built-once-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT"))
        Path(given).chmod(0o711)  # the user `postgres` enters it
    config.stash[FOLDER] = Path(given)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker the folder."""
    node.workerinput[INPUT] = str(node.config.stash[FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Delete the folder at the end of the run, when the workers have ended."""
    if FOLDER in config.stash and not hasattr(config, "workerinput"):
        shutil.rmtree(config.stash[FOLDER], ignore_errors=True)


@pytest.fixture(scope="session")
def built_once(pytestconfig: pytest.Config) -> Callable[[str, Callable[[Path], None]], Path]:
    """Return the folder of a name, which `build(folder)` filled once in this run. Tests copy what they change."""

    def folder_of(name: str, build: Callable[[Path], None]) -> Path:
        shared = pytestconfig.stash[FOLDER]
        folder, complete = shared / name, shared / f"{name}.complete"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not complete.exists():
                shutil.rmtree(folder, ignore_errors=True)  # what a failed attempt left
                folder.mkdir()
                build(folder)
                complete.touch()
        return folder

    return folder_of
