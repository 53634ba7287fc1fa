"""The hosted workflows: actions are pinned, Python is that of the package and the image, releases have notes."""

import os
import re
import shutil
import subprocess
import tomllib

import pytest
import yaml

from support_service import __version__
from tests.long import LONG
from tests.support.deployments import DOCKERFILE, ROOT

WORKFLOWS = {path.name: path.read_text() for path in sorted((ROOT / ".github" / "workflows").glob("*.yaml"))}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
(IMAGE,) = re.findall(r"^FROM docker\.io/library/(python:(\d+\.\d+)\S+) AS python$", DOCKERFILE, re.MULTILINE)


def jobs():
    return {
        f"{name} {job}": described
        for name, text in WORKFLOWS.items()
        for job, described in yaml.safe_load(text)["jobs"].items()
    }


def test_actions_are_pinned_by_commit():
    """With the version beside it, which Dependabot reads and writes."""
    for text in WORKFLOWS.values():
        used = re.findall(r"^ +(?:- )?uses: (?!\./)(.+)$", text, re.MULTILINE)
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


def test_jobs_end_by_themselves_and_hold_no_credentials(subtests):
    """A job that hangs is stopped, and what it runs finds no token in the folder.

    A step that is out of time has failed. A job that is out of time is cancelled, and its uploads do not run. Tests of
    full disks may mount one: without the capability they are skipped. `make coverage` fails below its threshold.
    """
    for job, described in jobs().items():
        steps = described.get("steps", ())
        with subtests.test(job):
            assert not steps or described["timeout-minutes"] <= 300
            for step in steps:
                if step.get("uses", "").startswith("actions/checkout@"):
                    assert step["with"]["persist-credentials"] is False
            if "failure()" in str(steps):
                commands = [step for step in steps if "run" in step and step.get("if") != "failure()"]
                assert [step["run"] for step in commands if "timeout-minutes" not in step] == []
                for_uploads = 4
                limits = sum(step["timeout-minutes"] for step in commands)
                assert limits <= described["timeout-minutes"] - for_uploads
    options = jobs()["ci.yaml test"]["container"]["options"].split()
    assert {"--cap-add=SYS_ADMIN", "--security-opt=apparmor=unconfined"} <= set(options)
    assert 90 <= PROJECT["tool"]["coverage"]["report"]["fail_under"] < 100


def test_each_long_form_is_in_one_row_of_the_night():
    """A row that hangs is stopped, and the other rows go on. Names of one's own run in a row of long forms."""
    night = jobs()["night.yaml long"]
    rows = {row["name"]: row["long"].split() for row in night["strategy"]["matrix"]["include"] if "long" in row}
    assert sorted(name for names in rows.values() for name in names) == sorted(LONG)
    assert night["strategy"]["fail-fast"] is False
    (chosen,) = re.findall(r"matrix\.name == '(.+)' }}.* # only", WORKFLOWS["night.yaml"])
    assert chosen in rows


@pytest.fixture
def run_step(processes, tmp_path):
    """Run a step of the release, which a part of its name identifies, in a folder with what it reads."""

    def run(job, name, **variables):
        (step,) = (step["run"] for step in jobs()[f"release.yaml {job}"]["steps"] if name in step.get("name", ""))
        github = {"GITHUB_SERVER_URL": "https://git.example", "GITHUB_REPOSITORY": "Desk/Support"}
        github["GITHUB_OUTPUT"] = str(tmp_path / "output")
        command, environment = ["bash", "-e", "-c", step], os.environ | github | variables
        return subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)

    for folder in ("dist", "build"):
        (tmp_path / folder).mkdir()
    (tmp_path / f"dist/support_service-{__version__}-py3-none-any.whl").touch()
    for path in ("CHANGELOG.md", "observability/helm/support-service/Chart.yaml"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    return run


def test_release_needs_a_registry_before_anything_else(run_step, tmp_path):
    """Without the variable the first job fails and says so. With it, that job names the image for the others."""
    release = {name: job for name, job in jobs().items() if name.startswith("release.yaml ")}
    assert [name for name, job in release.items() if "needs" not in job] == ["release.yaml registry"]
    refused = run_step("registry", "The image has a name", REGISTRY="")
    assert refused.returncode == 1
    assert refused.stdout.startswith("::error::Set the variable IMAGE_REGISTRY ")
    assert run_step("registry", "The image has a name", REGISTRY="registry.example").returncode == 0
    assert (tmp_path / "output").read_text() == "image=registry.example/desk/support\n"


@pytest.fixture
def docker(tmp_path):
    """Variables of steps whose `docker` prints its arguments and its input, and ends as the program `ANSWER` does."""
    path = tmp_path / "docker"
    path.write_text('#!/bin/sh\necho "$@"\ncat\nexec "$ANSWER"\n')
    path.chmod(0o755)
    login = {"REGISTRY": "registry.example", "LOGIN": "ann", "PASSWORD": "secret"}
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ANSWER": "true", **login}


def test_release_logs_in_to_the_registry_before_anything_else(run_step, docker):
    """A registry that refuses the login ends the release at once. Both jobs log in alike."""
    accepted = run_step("registry", "accepts the login", **docker)
    assert accepted.returncode == 0, accepted.stderr
    assert accepted.stdout == "login registry.example --username ann --password-stdin\nsecret\n"
    refused = run_step("registry", "accepts the login", **docker | {"ANSWER": "false"})
    assert refused.returncode == 1
    assert "\n::error::Cannot log in to registry.example. " in refused.stdout
    for name in ("LOGIN", "PASSWORD"):
        first, second = re.findall(rf"^ +{name}: (.+)$", WORKFLOWS["release.yaml"], re.MULTILINE)
        assert first == second


def test_programs_that_build_the_released_image_are_pinned(run_step, docker):
    """BuildKit and the program that lists the packages are images, whose defaults are other images each month."""
    (step,) = (step for step in jobs()["release.yaml release"]["steps"] if step.get("id") == "image")
    pushed = run_step("release", "Push the image", GITHUB_REF_NAME="v1.2.3", **step["env"] | docker)
    pinned = r"[\w.-]+/[\w.-]+:v?\d+\.\d+\.\d+@sha256:[0-9a-f]{64}"
    assert re.search(rf"^buildx create .*--driver-opt image={pinned}$", pushed.stdout, re.MULTILINE)
    assert re.search(rf"^buildx build --push --sbom=generator={pinned} --provenance=", pushed.stdout, re.MULTILINE)


@pytest.mark.parametrize("key", ["version", "appVersion"])
def test_tag_is_the_version_of_the_chart(run_step, tmp_path, key):
    """A chart of another version, or of another image, is not published."""
    path = tmp_path / "observability/helm/support-service/Chart.yaml"
    path.write_text(path.read_text().replace(f"\n{key}: {__version__}\n", f"\n{key}: {__version__}1\n"))
    refused = run_step("release", "the changelog has it", GITHUB_REF_NAME=f"v{__version__}")
    assert refused.returncode == 1
    assert f"::error::{key} in Chart.yaml is not that of the tag" in refused.stdout


def test_notes_of_a_release_are_its_section_of_the_changelog(run_step, tmp_path):
    """The step of the workflow runs for the present version. Links of the notes name files at the tag, which exist."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    done = run_step("release", "the changelog has it", GITHUB_REF_NAME=f"v{__version__}")
    assert done.returncode == 0, done.stderr

    notes = (tmp_path / "build/notes.md").read_text()
    section = re.split(rf"^## {re.escape(__version__)} - \d{{4}}-\d\d-\d\d$", changelog, flags=re.MULTILINE)[1]
    tag = f"https://git.example/Desk/Support/blob/v{__version__}/"
    assert notes.replace(tag, "").strip() == re.split(r"^## ", section, flags=re.MULTILINE)[0].strip()
    links = re.findall(r"\]\(([^)]+)\)", notes)
    missing = [link for link in links if not (ROOT / link.removeprefix(tag).partition("#")[0]).is_file()]
    assert links
    assert missing == []
