"""Checks of the runbooks, run as they are printed for a process on this machine."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from observability.drill import Cause, DrillFault
from observability.signal import runbook_of

from tests.e2e.drill.deployment import Deployment

RUNBOOKS = Path(__file__).parents[3] / "runbooks"
BLOCK = re.compile(r"^ *```(sh|promql)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^\*\*A process on this machine\*\*.*?```sh\n(.*?)```", re.MULTILINE | re.DOTALL)
LONGEST = 60.0  # seconds, on a busy machine


async def wrong_outputs(deployment: Deployment, fault: DrillFault) -> list[str]:
    """Run the checks that tell the causes of a fault; return what each printed that does not name its cause."""
    found = []
    for cause in fault.causes:
        printed = await _run_check(deployment, cause, page_of(cause, fault))
        text = cause.text.replace("REPLICA", re.escape(deployment.replicas[-1].admin_target))
        if not re.search(text, printed, re.MULTILINE):
            page = page_of(cause, fault)
            printed = f"{printed[:700]} … {printed[-300:]}"
            found.append(f"check {cause.check} of {page} does not print {text!r}, but: {printed}")
    return found


def page_of(cause: Cause, fault: DrillFault) -> str:
    """Return the runbook that has the check of a cause."""
    return cause.page or runbook_of(fault.alerts[0].partition("[")[0])


async def _run_check(deployment: Deployment, cause: Cause, page: str) -> str:
    """Run the queries and commands of a check; return what they print."""
    printed = []
    for language, content in BLOCK.findall(_check(page, cause.check)):
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
