"""`support-service` as a process whose constants have other values: `running("serve", **with_constants({…}))`."""

import json
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from pkgutil import resolve_name

from support_service import cli

VARIABLE = "TESTED_CONSTANTS"


def with_constants(seconds_or_numbers: Mapping[str, float]) -> dict[str, str]:
    """Return arguments of `running`. A constant is named by its module, without the package."""
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    return {"module": "tests.support.constants", "PYTHONPATH": path, VARIABLE: json.dumps(seconds_or_numbers)}


def set_constants() -> None:
    """Set the constants that the environment names. A name without a constant raises AttributeError."""
    for name, value in json.loads(os.environ.get(VARIABLE, "{}")).items():
        module, _, constant = f"support_service.{name}".rpartition(".")
        is_duration = isinstance(resolve_name(f"{module}:{constant}"), timedelta)
        setattr(resolve_name(module), constant, timedelta(seconds=value) if is_duration else value)


if __name__ == "__main__":
    set_constants()
    cli.main()
