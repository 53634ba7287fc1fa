"""A container of the image, with a read-only root and without root's rights, does what the service promises.

`make image` runs these tests: they need the image, and root to run it.
"""

import aiohttp
import pytest

from support_service import __version__
from tests.e2e.image.podman import IMAGE, VOLUME, Container, described, output, run
from tests.support.calls import eventually, expect_json, open_case, read_case
from tests.support.servers import START_TIMEOUT, free_port

WRITABLE = """
import json, os
skipped = ("/proc", "/sys", "/dev")
found = [folder for folder, names, _ in os.walk("/") if not folder.startswith(skipped) and os.access(folder, os.W_OK)]
print(json.dumps(found))
"""
STATUS = """
import json
print(json.dumps(dict(line.split(":", 1) for line in open("/proc/1/status").read().splitlines())))
"""


@pytest.fixture(scope="module")
def container(processes):
    """A container with the service; it is removed with its volume."""
    container = Container(free_port())
    try:
        container.start()
        yield container
    finally:
        container.remove()


@pytest.fixture
async def client(container):
    async with aiohttp.ClientSession(container.address) as session:
        await eventually(lambda: _is_ready(session), START_TIMEOUT)
        yield session


async def _is_ready(session):
    try:
        async with session.get("/readyz") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


def test_version_is_that_of_the_source(container):
    done = container.run("--version")
    assert (done.returncode, done.stdout) == (0, f"support-service {__version__}\n"), done.stderr


async def test_health_routes_and_the_health_check_are_good(container, client):
    """What compose and Kubernetes ask, and what the image says of itself. The console is served, too."""
    for path, kind in (("/livez", ""), ("/readyz", ""), ("/metrics", ""), ("/console/", "text/html")):
        async with client.get(path) as response:
            assert (response.status, kind in response.content_type) == (200, True), path
    checked = run("healthcheck", "run", container.name)
    assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_case_outlives_the_container(container, client):
    """SIGTERM ends the service with success, and the next start finds the case in the volume."""
    case = await open_case(client)
    output("stop", "--time", "30", container.name)
    assert output("inspect", "--format", "{{.State.ExitCode}}", container.name) == "0"
    output("start", container.name)
    await eventually(lambda: _is_ready(client), START_TIMEOUT)
    assert (await read_case(client, case))["subject"] == case["subject"]


async def test_synthetic_check_of_the_same_image_is_good(container, client):
    """A case from opening to deletion, with a file; the command and the service come from the image."""
    done = container.run("probe", f"--base-url={container.address}", "--once", "--threshold=60", "--event-threshold=60")
    assert done.returncode == 0, done.stdout + done.stderr


async def test_service_levels_know_the_time_zones(client):
    """A calendar in local time needs the time zone data, which the base image has to bring."""
    policy = {
        "targets": {"resolution": "PT8H"},
        "calendar": {"timeZone": "Asia/Ho_Chi_Minh", "spans": {"mon": [["08:00", "17:00"]]}},
    }
    await expect_json(client.put("/support/sla-policies/image", json=policy), 201)


async def test_process_has_no_rights(container, client):
    """It is the user that the image names, without capabilities, and cannot get any."""
    status = {name: value.split() for name, value in container.python(STATUS).items()}
    assert set(status["Uid"]) == set(status["Gid"]) == {"10001"}
    assert {int(status[name][0], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == ["1"]
    assert described()["Config"]["User"] == "10001:10001"


async def test_only_the_volume_and_tmp_can_be_written_to(container, client):
    found = container.python(WRITABLE)
    assert {VOLUME, "/tmp"} <= set(found)
    assert [folder for folder in found if not folder.startswith((VOLUME, "/tmp"))] == []
    refused = run("exec", container.name, "python", "-c", "open('/opt/support/x', 'w')")
    assert "Read-only file system" in refused.stderr


def test_user_is_not_root_without_any_option(container):
    """Running the image as it is gives the same user."""
    assert output("run", "--rm", "--pull=never", "--network=host", "--entrypoint=id", IMAGE, "-u") == "10001"
