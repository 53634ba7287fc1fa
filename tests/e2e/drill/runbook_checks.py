"""Checks of the runbooks, run as they are printed for a process on this machine."""

import asyncio
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.drill.deployment import Deployment

RUNBOOKS = Path(__file__).parents[3] / "runbooks"
BLOCK = re.compile(r"^ *```(sh|promql)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^\*\*A process on this machine\*\*.*?```sh\n(.*?)```", re.MULTILINE | re.DOTALL)
LONGEST = 60.0  # seconds, on a busy machine


@dataclass(frozen=True, slots=True)
class Cause:
    """A check of a page by its number, and what it prints if the fault is the cause."""

    check: int
    text: str  # regular expression; REPLICA is the instance that a fault affects
    page: str = ""
    typed: str = ""  # what a person types at the prompt of the check

    async def found(self, deployment: Deployment) -> str:
        """Run the check; return an empty text if it names the cause, otherwise what it printed instead."""
        printed = await _run_check(deployment, self)
        text = self.text.replace("REPLICA", re.escape(deployment.replicas[-1].admin_target))
        if re.search(text, printed, re.MULTILINE):
            return ""
        return f"check {self.check} of {self.page} does not print {text!r}, but: {printed[:700]} … {printed[-300:]}"


async def _run_check(deployment: Deployment, cause: Cause) -> str:
    """Run the queries and commands of a check; return what they print."""
    printed = []
    for language, content in BLOCK.findall(_check(cause.page, cause.check)):
        if language == "promql":
            printed.append(await deployment.monitoring.query(" ".join(content.split())))
        else:
            printed.append(await _run_command(deployment, content, cause.typed))
    return "\n".join(printed)


def _check(page: str, number: int) -> str:
    """Return the text of a check."""
    _, _, after = (RUNBOOKS / page).read_text().partition("\n## Checks\n")
    checks = re.split(r"^\d+\. ", after.partition("\n## ")[0], flags=re.MULTILINE)
    return checks[number]


async def _run_command(deployment: Deployment, command: str, typed: str) -> str:
    shell = SHELL.search((RUNBOOKS / "README.md").read_text())[1]
    for usual, address in (
        ("http://127.0.0.1:8000", deployment.replicas[0].address),
        ("http://127.0.0.1:9090", deployment.monitoring.prometheus),
    ):
        shell = shell.replace(usual, address)
    tools = Path(sys.executable).parent
    process = await asyncio.create_subprocess_exec(
        *(*deployment.replicas[0].within, "bash", "-c", f"cd {deployment.folder}\n{shell}\n{command}"),
        env=deployment.probe.environment
        | deployment.replicas[0].environment
        | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "HOME": str(deployment.folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(f"{typed}\n".encode()), LONGEST)
    except TimeoutError:
        process.kill()
        return "no end within the time of a check"
    return out.decode()
