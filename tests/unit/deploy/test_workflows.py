"""The hosted workflows: actions are pinned, and versions of Python equal the versions of the package and the image."""

import re
import tomllib

import pytest
import yaml

from tests.support.deployments import DOCKERFILE, ROOT

WORKFLOWS = {path.name: path.read_text() for path in sorted((ROOT / ".github" / "workflows").glob("*.yaml"))}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
(IMAGE,) = re.findall(r"^ARG BASE=docker\.io/library/(python:(\d+\.\d+)\S+)$", DOCKERFILE, re.MULTILINE)


def jobs():
    """Return each job, by its workflow and name."""
    return {
        f"{name} {job}": described
        for name, text in WORKFLOWS.items()
        for job, described in yaml.safe_load(text)["jobs"].items()
    }


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_by_commit(name):
    """With the version beside it, which Dependabot reads and writes."""
    used = re.findall(r"^ +(?:- )?uses: (?!\./)(.+)$", WORKFLOWS[name], re.MULTILINE)
    assert used
    assert [use for use in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)] == []


def test_tests_run_on_the_oldest_the_image_s_and_the_newest_python():
    """The oldest is what the package asks for."""
    tested = {each["python"]: each["image"] for each in jobs()["ci.yaml test"]["strategy"]["matrix"]["include"]}
    image, version = IMAGE
    assert list(tested) == sorted(tested)
    assert PROJECT["project"]["requires-python"] == f">={min(tested)}"
    assert tested[version] == image
    assert [tag for name, tag in tested.items() if not tag.startswith(f"python:{name}")] == []
    others = {
        job["container"]["image"] for name, job in jobs().items() if "container" in job and name != "ci.yaml test"
    }
    assert others == {image}


@pytest.mark.parametrize("job", [job for job, described in jobs().items() if "steps" in described])
def test_jobs_end_by_themselves_and_hold_no_credentials(job):
    """A job that hangs is stopped, and what it runs finds no token in the folder."""
    described = jobs()[job]
    assert described["timeout-minutes"] <= 300
    for step in described["steps"]:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_coverage_has_a_threshold():
    """`make coverage` fails below it."""
    assert 90 <= PROJECT["tool"]["coverage"]["report"]["fail_under"] < 100
