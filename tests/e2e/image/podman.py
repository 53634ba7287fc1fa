"""The image that `.ci/image/build` made, and containers of it as confined as in compose and Kubernetes."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from support_service import __version__

ROOT = Path(__file__).parents[3]
BUILT = ROOT / "build" / "image"
IMAGE = f"localhost/support-service:{__version__}"
VOLUME = "/var/lib/support"
COMMAND_TIMEOUT = 120.0  # seconds, on a busy machine
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["support-service"]


def run(*arguments: str, program: str = "podman") -> subprocess.CompletedProcess[str]:
    """Run a command of podman on the images in build/image/; never ask a registry."""
    environment = os.environ | {
        "CONTAINERS_STORAGE_CONF": str(BUILT / "storage.conf"),
        "CONTAINERS_CONF": str(BUILT / "containers.conf"),
        "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
    }
    return subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False
    )


def output(*arguments: str) -> str:
    """Run a command of podman that must succeed; return what it printed."""
    done = run(*arguments)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout.strip()


def described() -> dict[str, Any]:
    """Return what podman knows of the image: configuration, history and size."""
    return json.loads(output("image", "inspect", IMAGE))[0]


@contextmanager
def mounted() -> Iterator[Path]:
    """The root file system of the image, for reading."""
    try:
        yield Path(output("image", "mount", IMAGE))
    finally:
        output("image", "unmount", IMAGE)


def memory_limit() -> str:
    """Return the memory that Kubernetes allows the service, in bytes."""
    manifest = (ROOT / "observability" / "kubernetes" / "support-service.yaml").read_text()
    (deployment,) = [each for each in yaml.safe_load_all(manifest) if each["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return str(int(container["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20)


def confined(volume: str) -> list[str]:
    """Return the options of a container: the restrictions of compose, and a named volume for its data."""
    assert COMPOSE["read_only"]
    return [
        *("--pull=never", "--network=host", "--read-only", "--read-only-tmpfs=false"),
        *(f"--tmpfs={folder}" for folder in COMPOSE["tmpfs"]),
        *(f"--cap-drop={capability}" for capability in COMPOSE["cap_drop"]),
        *(f"--security-opt={option}" for option in COMPOSE["security_opt"]),
        f"--memory={memory_limit()}",
        f"--volume={volume}:{VOLUME}",
    ]


class Container:
    """A container with the service, which keeps its data in a volume of its own."""

    def __init__(self, port: int) -> None:
        self.name = f"support-{uuid4().hex[:12]}"
        self.address = f"http://127.0.0.1:{port}"
        self._settings = [f"--env=SUPPORT_PORT={port}", "--env=SUPPORT_HOST=127.0.0.1", "--env=SUPPORT_STOP_DELAY=0"]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the service in a container that is removed when it ends."""
        return run("run", "--rm", *confined(self.name), *self._settings, IMAGE, *command)

    def start(self) -> None:
        """Start the service, as a rollout does: the migrations first."""
        migrated = self.run("migrate")
        assert migrated.returncode == 0, migrated.stderr
        output("run", "--detach", "--name", self.name, *confined(self.name), *self._settings, IMAGE)

    def python(self, program: str) -> Any:
        """Run a program of Python inside the container, as its user; return the JSON that it prints."""
        return json.loads(output("exec", self.name, "python", "-c", program))

    def remove(self) -> None:
        """End the container, and remove it with its volume."""
        run("rm", "--force", "--time", "0", self.name)
        run("volume", "rm", "--force", self.name)
