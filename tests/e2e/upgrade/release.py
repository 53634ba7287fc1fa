"""The code of release 0.2.0, from the history of this clone, with the packages of its lock file in its environment."""

import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

VERSION = "0.2.0"
COMMIT = "4d25e469b813e71b5c5f2a9380b0b9b9b9bb5736"
ROOT = Path(__file__).parents[3]
CACHE = ROOT / "build" / f"release-{VERSION}"


class MissingHistory(Exception):
    """The clone does not have the commit of the release."""


@dataclass(frozen=True)
class Release:
    """A release that was installed: the root of its code, and the interpreter of its environment."""

    code: Path
    python: str


def installed() -> Release:
    """Return the release; the first call installs it, which takes minutes, and later runs find it."""
    code, environment, complete = CACHE / "code", CACHE / "venv", CACHE / "complete"
    release = Release(code, str(environment / "bin" / "python"))
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists() or complete.read_text() != COMMIT:
            for folder in (code, environment):
                shutil.rmtree(folder, ignore_errors=True)  # what a failed attempt left
            _unpack(code)
            _install(release, environment)
            complete.write_text(COMMIT)
    return release


def _unpack(folder: Path) -> None:
    git = ("git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT))  # a checkout in a container has another owner
    known = subprocess.run((*git, "cat-file", "-e", f"{COMMIT}^{{commit}}"), capture_output=True, check=False)
    if known.returncode:
        raise MissingHistory(
            f"Release {VERSION} is commit {COMMIT}, which this clone does not have. "
            f"Run `git fetch --unshallow` in a shallow clone. git says: {known.stderr.decode().strip()}"
        )
    folder.mkdir()
    with subprocess.Popen((*git, "archive", COMMIT), stdout=subprocess.PIPE) as archive:
        subprocess.run(("tar", "-x", "-C", str(folder)), stdin=archive.stdout, check=True)
    if archive.returncode:
        raise MissingHistory(f"git can't write the files of commit {COMMIT}")


def _install(release: Release, environment: Path) -> None:
    """Make an environment with the packages of the release's lock file, which finds its code."""
    subprocess.run((sys.executable, "-m", "venv", str(environment)), check=True)
    pip = (release.python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--require-hashes")
    subprocess.run((*pip, "-r", str(release.code / "requirements.txt")), check=True, env=_without_paths())
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "release.pth").write_text(f"{release.code / 'src'}\n")


def _without_paths() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PIP_REQUIRE_VIRTUALENV")}
