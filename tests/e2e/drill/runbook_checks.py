"""Checks and actions of the runbooks, run as they are printed, in the shell of their README for a process.

What restarts, replaces or configures replicas is as for Kubernetes, with the `kubectl` of orchestrator.py.
"""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from observability.drill import Action, Cause, DrillFault
from observability.signal import runbook_of

from tests.e2e.drill.deployment import Deployment
from tests.support.runbooks.pages import BLOCK, ENGLISH, actions, checks, page_text, section

README = "README.md"
KUBERNETES = re.compile(r"^(?:export (?:RESTART|REPLACE|SET|ROLLBACK)=|replace_pod\(\)).*$", re.MULTILINE)
CHECKS_WITHIN = 60.0  # seconds, on a busy machine
ACTS_WITHIN = 240.0
TIMED_OUT = 124  # as exit status


async def run_checks(deployment: Deployment, fault: DrillFault) -> list[str]:
    """Run the checks that tell the causes of a fault; return what each printed."""
    return [await _run_check(deployment, cause, page_of(cause, fault)) for cause in fault.causes]


def wrong_outputs(deployment: Deployment, fault: DrillFault, outputs: Sequence[str]) -> list[str]:
    """Return the outputs of checks that do not name their cause."""
    found = []
    for cause, printed in zip(fault.causes, outputs, strict=True):
        text = cause.text.replace("REPLICA", re.escape(deployment.replicas[-1].admin_target))
        if not re.search(text, printed, re.MULTILINE):
            page = page_of(cause, fault)
            shown = f"{printed[:700]} … {printed[-300:]}"
            found.append(f"check {cause.check} of {page} does not print {text!r}, but: {shown}")
    return found


async def carry_out(deployment: Deployment, action: Action, page: str, printed: str) -> str:
    """Run the blocks of an action of a page as they are printed; return what went wrong, or nothing.

    `printed` is the output of the checks, from which a person copies.
    """
    affected = deployment.replicas[-1]
    typed = [line.replace("POD", affected.name).replace("NODE", affected.node) for line in action.typed]
    if action.copied:
        copied = re.search(action.copied, printed, re.MULTILINE)
        if copied is None:
            return f"the checks print nothing like {action.copied!r} for {action.name!r} of {page}: {printed[:700]}"
        typed = [copied[1]]
    status, out = await _run_command(deployment, commands_of(page, action.name), "\n".join(typed), ACTS_WITHIN)
    return f"{action.name!r} of {page} ends with {status}: {out[-700:]}" if status else ""


def commands_of(page: str, name: str) -> str:
    """Return the commands of an action of a page, or of the section of the README that the page refers to."""
    text = section(page, f"## {name}") if page == README else actions(page).get(name, "")
    return "\n".join(content for _, content in BLOCK.findall(text))


def page_of(what: Cause | Action, fault: DrillFault) -> str:
    """Return the runbook that has the check of a cause, or an action."""
    return what.page or runbook_of(fault.alerts[0].partition("[")[0])


async def _run_check(deployment: Deployment, cause: Cause, page: str) -> str:
    """Run the queries and commands of a check; return what they print."""
    printed = []
    for language, content in BLOCK.findall(checks(page)[cause.check - 1]):
        if language == "promql":
            printed.append(await deployment.monitoring.query(" ".join(content.split())))
        else:
            printed.append((await _run_command(deployment, content, cause.typed, CHECKS_WITHIN))[1])
    return "\n".join(printed)


async def _run_command(deployment: Deployment, command: str, typed: str, within: float) -> tuple[int, str]:
    """Return the exit status of a command, and what it prints."""
    readme = page_text(ENGLISH, README)
    kubernetes, _, own = readme.partition("\n**A process on this machine**")
    shell = "\n".join((BLOCK.search(own)[2], *KUBERNETES.findall(kubernetes.partition("\n**Compose**")[0])))
    for usual, address in (
        ("http://127.0.0.1:8000", deployment.replicas[0].address),
        ("http://127.0.0.1:9090", deployment.monitoring.prometheus),
    ):
        shell = shell.replace(usual, address)
    path = (deployment.orchestrator.folder, Path(sys.executable).parent, os.environ["PATH"])
    process = await asyncio.create_subprocess_exec(
        *(*deployment.replicas[0].within, "bash", "-c", f"cd {deployment.folder}\n{shell}\n{command}"),
        env=deployment.probe.environment
        | deployment.replicas[0].environment
        | deployment.database.psql
        | {"PATH": os.pathsep.join(str(each) for each in path), "HOME": str(deployment.folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(f"{typed}\n".encode()), within)
    except TimeoutError:
        process.kill()
        return TIMED_OUT, f"no end within {within:g} s"
    return process.returncode, out.decode()
