"""What the package declares in pyproject.toml, and what the lock files have of it."""

import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
DESCRIBED = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILD, PROJECT = DESCRIBED["build-system"]["requires"], DESCRIBED["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = {each.name: each.specifier for each in map(Requirement, PROJECT["dependencies"])}


def test_releases_with_a_known_hole_are_not_installed():
    """Who installs the package without the lock file gets no release whose hole a later one closed."""
    for package, release in (
        ("aiohttp", "3.14.1"),  # a request can be smuggled by an upgrade
        ("aiohttp", "3.14.2"),  # its C parser of responses accepts what it must refuse
    ):
        assert release not in DECLARED[package]


def pins(name):
    """Return the versions of each package in a lock file. A marker may divide them among versions of Python."""
    lines = re.findall(r"^([a-z\d]\S*==[^\\\n]+)", (ROOT / name).read_text(), re.MULTILINE)
    pinned = defaultdict(set)
    for requirement in map(Requirement, lines):
        (pin,) = requirement.specifier
        pinned[canonicalize_name(requirement.name)].add(pin.version)
    return pinned


def test_tests_run_with_the_packages_of_the_image():
    """Each package of requirements.txt has the same version in requirements-dev.txt."""
    service, development = pins("requirements.txt"), pins("requirements-dev.txt")
    assert service
    assert service == {name: development[name] for name in service}


@pytest.mark.parametrize(
    ("lock", "declared"),
    [
        ("requirements.txt", PROJECT["dependencies"]),
        ("requirements-dev.txt", [*BUILD, *PROJECT["dependencies"], *EXTRAS["dev"], *EXTRAS["benchmark"]]),
    ],
)
def test_locked_versions_are_those_that_the_project_allows(lock, declared):
    """A range that changes in pyproject.toml needs `make lock`."""
    pinned = pins(lock)
    wrong = {}
    for requirement in map(Requirement, declared):
        versions = pinned[canonicalize_name(requirement.name)]
        if not versions or versions != set(requirement.specifier.filter(versions, prereleases=True)):
            wrong[str(requirement)] = versions
    assert wrong == {}
