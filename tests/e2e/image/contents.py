"""What is in the image: the locked packages and the service, and nothing that a running service does not need.

`make image` runs these tests: they need the image, and root to read it.
"""

import re
import stat
import subprocess
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from tests.e2e.image.podman import BUILT, ROOT, described, mounted

MAXIMUM_SIZE = 320_000_000  # bytes of the image
MAXIMUM_ADDED = 170_000_000  # bytes that lie above the base image
COMPILERS = (
    r"(.*-)?(cc|c\+\+|gcc|g\+\+|cc1|cc1plus|clang|cpp|tcc|as|ld|ld\.(bfd|gold|lld)|make|cmake|rustc|cargo|go)(-[\d.]+)?"
)
DEVELOPMENT = r"pip|setuptools|wheel|uv|pytest.*|mypy|ruff|coverage|hypothesis|playwright"
SECRETS = r"\.env|\.netrc|pip\.conf|\.pypirc|tokens\.json|id_[a-z0-9]+|.*\.(key|p12|pfx)|certificates"
DATA = Path("var/lib/support")
# Folders of the base that everyone may write to, with the sticky bit.
SHARED = {Path("tmp"), Path("var/tmp"), Path("run/lock")}


@pytest.fixture(scope="module")
def root(processes):
    with mounted() as path:
        yield path


@pytest.fixture(scope="module")
def files(root):
    """The files, links and folders of the image, by their paths in it; without devices."""
    found = {path.relative_to(root): path.lstat() for path in root.rglob("*")}
    return {path: status for path, status in found.items() if path.parts[0] not in {"dev", "proc", "sys"}}


@pytest.fixture(scope="module")
def packages(root):
    (folder,) = root.glob("opt/support/lib/python3.*/site-packages")
    return folder


def named(files, pattern):
    """Return the paths whose last part has the form given."""
    return sorted(str(path) for path in files if re.fullmatch(pattern, path.name))


def test_size_is_bounded(root, files):
    """Of the image as podman counts it, and of what the Dockerfile adds to its base."""
    assert described()["Size"] <= MAXIMUM_SIZE
    added = sum(
        status.st_size for path, status in files.items() if path.is_relative_to("opt") and stat.S_ISREG(status.st_mode)
    )
    assert added <= MAXIMUM_ADDED


def test_packages_are_those_of_the_lock(packages):
    """Each has the version of requirements.txt; besides there is the service alone."""
    locked = dict(
        re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    )
    installed = {
        re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower(): distribution.version
        for distribution in (Distribution.at(path) for path in packages.glob("*.dist-info"))
    }
    assert installed.pop("support-service")
    assert installed.keys() <= locked.keys()
    assert installed == {name: locked[name] for name in installed}
    assert [name for name in installed if re.fullmatch(DEVELOPMENT, name)] == []


def test_service_is_the_source(packages):
    """Every file of the package is there as it is in git: code, migrations, and the console with its assets.

    Type declarations of the console's modules, which only `make lint` reads, stay behind.
    """
    tracked = subprocess.run(
        ["git", "ls-files", "src/support_service"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert any("console/static" in path for path in tracked)
    for path in (each for each in tracked if not each.endswith(".d.ts")):
        assert (packages / Path(path).relative_to("src")).read_bytes() == (ROOT / path).read_bytes(), path


def test_bytecode_is_there(packages):
    """A read-only root cannot take it later, and each start would compile again."""
    sources = list((packages / "support_service").rglob("*.py"))
    assert [source for source in sources if not list(source.parent.glob(f"__pycache__/{source.stem}.*.pyc"))] == []


def test_there_is_no_compiler(files):
    modes = {path: status.st_mode for path, status in files.items()}
    programs = {path for path, mode in modes.items() if stat.S_ISREG(mode) and mode & stat.S_IXUSR}
    links = {path for path, mode in modes.items() if stat.S_ISLNK(mode) and path.parent.name in {"bin", "sbin"}}
    assert named(programs | links, COMPILERS) == []


def test_there_is_no_cache(files):
    """Neither pip's nor apt's: no wheels that were downloaded, no package lists."""
    kept = [path for path, status in files.items() if stat.S_ISREG(status.st_mode)]
    caches = ("root/.cache/", "var/cache/apt/", "var/lib/apt/lists/", "build/", "tmp/", "var/tmp/")
    assert [path for path in kept if str(path).startswith(caches) and path.name != "lock"] == []
    assert named([path for path in kept if path.parts[0] == "opt"], r".*\.whl") == []


def test_there_are_neither_tests_nor_programs_with_the_rights_of_their_owner(files):
    """Neither our tests nor the packages' tests."""
    assert named([path for path in files if path.is_relative_to("opt")], r"tests|conftest\.py") == []
    special = stat.S_ISUID | stat.S_ISGID
    assert [path for path, each in files.items() if stat.S_ISREG(each.st_mode) and each.st_mode & special] == []


def test_only_the_data_folder_belongs_to_the_service(files):
    """Everything else belongs to root, and nobody else may change it."""
    data = {path for path in files if path.is_relative_to(DATA)}
    assert data == {DATA, DATA / "attachments"}
    assert {(files[path].st_uid, files[path].st_gid) for path in data} == {(10001, 10001)}
    others = [path for path, status in files.items() if status.st_uid != 0 and path not in data]
    assert [str(path) for path in others if path.name != "partial"] == []  # empty folders of apt
    open_to_all = {
        path for path, status in files.items() if status.st_mode & stat.S_IWOTH and not stat.S_ISLNK(status.st_mode)
    }
    assert open_to_all <= SHARED
    assert all(files[path].st_mode & stat.S_ISVTX for path in open_to_all)


def test_there_are_no_secrets(root, files):
    """Neither files that hold any, nor, in the configuration and its history, where the build got its packages."""
    regular = [path for path, status in files.items() if stat.S_ISREG(status.st_mode)]
    assert named(regular, SECRETS) == []
    assert "SECRET" not in (about := str(described()))
    assert {pair.partition("=")[0] for pair in described()["Config"]["Env"]} >= {"PATH", "SUPPORT_DATABASE_URL"}
    assert re.findall(r"index-url|trusted-host|\w+://[^/\s]*:[^/\s]*@", about) == []
    assert not (BUILT / "pip.conf").exists()
    for listed in (*root.glob("etc/apt/sources.list"), *root.glob("etc/apt/apt.conf.d/*mmdebstrap")):
        assert not listed.read_text().strip(), listed


def test_configuration_is_that_of_the_dockerfile(processes):
    """What podman, compose and Kubernetes read from the image."""
    config = described()["Config"]
    assert (config["User"], config["Entrypoint"], config["Cmd"]) == ("10001:10001", ["support-service"], ["serve"])
    assert list(config["ExposedPorts"]) == ["8000/tcp"]
    assert list(config["Volumes"]) == [f"/{DATA}"]
    assert config["StopSignal"] == "SIGTERM"
    assert described()["Healthcheck"]["Test"][:2] == ["CMD", "python"]
