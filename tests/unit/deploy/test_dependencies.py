"""What the package declares in pyproject.toml."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = {each.name: each.specifier for each in map(Requirement, PROJECT["dependencies"])}


@pytest.mark.parametrize(
    ("package", "release"),
    [
        ("aiohttp", "3.14.1"),  # a request can be smuggled by an upgrade
        ("aiohttp", "3.14.2"),  # its C parser of responses accepts what it must refuse
    ],
)
def test_releases_with_a_known_hole_are_not_installed(package, release):
    """Who installs the package without the lock file gets no release whose hole a later one closed."""
    assert release not in DECLARED[package]
