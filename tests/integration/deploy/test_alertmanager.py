"""Alertmanager, as compose starts it, finds its secrets and sends notifications."""

import asyncio
import re
import shutil
import subprocess
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import aiohttp
import pytest
import yaml

from tests.support.alert_receiver import Receiver
from tests.support.calls import eventually
from tests.support.servers import START_TIMEOUT, MissingServer, find_binary, free_port

ROOT = Path(__file__).parents[3]
SERVICE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["alertmanager"]
HOME = "/alertmanager"  # the image's working directory
WORKING_DIRECTORY = PurePosixPath(SERVICE.get("working_dir", HOME))
CONFIG = "observability/alertmanager/alertmanager.yml"
ALERTS = [
    {"labels": {"alertname": "Watchdog", "severity": "none", "service": "support-service"}},
    {
        "labels": {"alertname": "SupportServiceDown", "severity": "critical", "service": "support-service"},
        "annotations": {"summary": "No replica answers", "runbook_url": "https://runbooks.example/down.md"},
    },
]


def mounts():
    pairs = [volume.split(":") for volume in SERVICE["volumes"]]
    return {PurePosixPath(target): ROOT / source for source, target, *_ in pairs if source.startswith(".")}


@asynccontextmanager
async def alertmanager(root):
    """Run compose's command in its working directory, with `root` as the container's root; yield the URL."""
    port = free_port()
    command = [part.replace("=/", f"={root}/") for part in SERVICE["command"]]
    with (root / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            find_binary("prometheus-alertmanager"),
            *command,
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            cwd=f"{root}{WORKING_DIRECTORY}",
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


@pytest.fixture
async def receiver():
    """A receiver in place of Slack, the pager and the dead man's switch."""
    receiver = Receiver()
    await receiver.open()
    yield receiver
    await receiver.close()


@pytest.fixture
def root(servers, tmp_path, receiver):
    """The container's root: the mounts of compose, with secrets, without e-mail and without group waits."""
    (tmp_path / HOME[1:]).mkdir()
    for target, source in mounts().items():
        shutil.copytree(source, f"{tmp_path}{target}", ignore=shutil.ignore_patterns("secrets"))
    file = Path(f"{tmp_path}/etc/alertmanager/alertmanager.yml")
    config = yaml.safe_load(file.read_text().replace("group_wait: 30s", "group_wait: 0s"))
    for each in config["receivers"]:
        each.pop("email_configs", None)
    file.write_text(yaml.safe_dump(config))
    folder, paths = file.parent / "secrets", {"slack_api_url": "/slack", "pager_url": "/pager"}
    folder.mkdir()
    for name, path in (paths | {"dead_mans_switch_url": "/watchdog"}).items():
        (folder / name).write_text(receiver.url(path))
    (folder / "smtp_password").write_text("none")
    return tmp_path


async def test_each_receiver_gets_its_notifications(root, receiver):
    """Slack, the pager and the dead man's switch each receive their alerts.

    From the working directory each path of a secret leads to `secrets` beside the configuration.
    """
    secrets = re.findall(r"\w+_file: (\S+)", (ROOT / CONFIG).read_text())
    assert len(secrets) == 4
    for secret in secrets:
        (location,) = {source / (WORKING_DIRECTORY / secret).relative_to(target) for target, source in mounts().items()}
        assert location.parent == (ROOT / CONFIG).parent / "secrets"
    try:
        async with alertmanager(root) as address, aiohttp.ClientSession(address) as session:
            alerts = [{"startsAt": datetime.now(UTC).isoformat(), **alert} for alert in ALERTS]
            await eventually(lambda: _accepts(session, alerts), START_TIMEOUT)
            await eventually(lambda: receiver.beats and receiver.paged and receiver.slack)
    except MissingServer as missing:
        pytest.exit(str(missing), returncode=1)
    except AssertionError:
        pytest.fail((root / "log").read_text())
    assert receiver.paged == ["SupportServiceDown"]
    assert receiver.slack[0].alert == "SupportServiceDown"


async def _accepts(session, alerts):
    try:
        async with session.post("/api/v2/alerts", json=alerts) as response:
            return response.status == 200
    except aiohttp.ClientConnectionError:
        return False
