"""Compiled test modules: kept for later runs, and compiled by the workers of a first run in equal shares.

Rewriting the assertions of all test modules takes 7 s, which each worker would spend at the same time as the others.
"""

import sys
from contextlib import suppress
from importlib import import_module

import pytest

sys.dont_write_bytecode = False  # whatever the environment says


def pytest_sessionstart(session: pytest.Session) -> None:
    """In a worker: import its share of the modules that the run collects, before it collects all."""
    worker = getattr(session.config, "workerinput", None)
    if worker is None:
        return
    number = int(worker["workerid"].removeprefix("gw"))
    places = [session.config.invocation_params.dir / each.partition("::")[0] for each in session.config.args]
    modules = [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("test_*.py")))]
    for path in modules[number :: worker["workercount"]]:
        with suppress(Exception):  # the collection reports it
            import_module(".".join(path.relative_to(session.config.rootpath).with_suffix("").parts))
