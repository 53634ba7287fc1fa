"""Isolation of tests: global state is the same before and after each test, and temporary files are in memory.

Logging is restored, since many tests configure it through the command line. Any other change fails the test.
"""

import asyncio
import gc
import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web_app

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)

MEMORY_DIRECTORY = Path("/dev/shm")
REQUIRED_SPACE = 4 * 1024**3  # bytes that all workers may need
GARBAGE = 20_000  # new objects before a garbage collection; with the default of 700 it takes a tenth of the time

Levels = dict[logging.Logger, tuple[Any, ...]]
LOGGING = pytest.StashKey[Levels]()
STATE = pytest.StashKey[dict[str, Any]]()


def pytest_configure() -> None:
    """Put temporary directories into memory if there is space; PYTEST_DEBUG_TEMPROOT overrides this.

    A shell lets background commands ignore SIGINT, and so do all processes that they start: tests send it to some.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if MEMORY_DIRECTORY.is_dir() and shutil.disk_usage(MEMORY_DIRECTORY).free > REQUIRED_SPACE:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_DIRECTORY))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Name a path that does not exist: with workers, pytest reports only that no test ran.

    Raises UsageError.
    """
    for argument in session.config.args:
        if not (session.config.invocation_params.dir / argument.partition("::")[0]).exists():
            raise pytest.UsageError(f"not found: {argument}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seed that repeats the order of this run; pytest-randomly prints it in a header that `-q` hides."""
    seed = config.getoption("randomly_seed", default=None)
    if seed is not None:
        terminalreporter.write_line(f"Repeat this order with SEED={seed}")


def pytest_collection_finish() -> None:
    """Exclude all existing objects from garbage collections, and let these be rare: each test starts new services."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 20)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Remember the state before any fixture of the test runs."""
    item.stash[LOGGING] = _loggers()
    item.stash[STATE] = _state()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Restore logging after the test's fixtures are torn down; fail if anything else differs."""
    yield
    _restore(item.stash[LOGGING])
    web_app._cached_build_middleware.cache_clear()  # it would keep 1,024 applications with all their parts
    before, after = item.stash[STATE], _state()
    del item.stash[LOGGING], item.stash[STATE]
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    if changed:
        pytest.fail(f"the test changed global state and did not restore it (before, after): {changed}", pytrace=False)


def _state() -> dict[str, Any]:
    umask = os.umask(0)
    os.umask(umask)
    # Deprecated since Python 3.14, and no test can set one there without a warning.
    policy = {"event loop policy": type(asyncio.get_event_loop_policy())} if sys.version_info < (3, 14) else {}
    return policy | {
        "environment": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        "working directory": os.getcwd(),  # noqa: PTH109 - compared, not used as a path
        "umask": umask,
        "signal handlers": {number.name: signal.getsignal(number) for number in SIGNALS},
        "arguments": list(sys.argv),
        "import path": list(sys.path),
        "excepthook": sys.excepthook,
        "standard streams": (sys.__stdout__, sys.__stderr__),
        "garbage collection": (gc.isenabled(), gc.get_threshold()),
        "recursion limit": sys.getrecursionlimit(),
    }


def _loggers() -> Levels:
    known = [logger for logger in logging.Logger.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    return {logger: _settings(logger) for logger in (logging.root, *known)}


def _settings(logger: logging.Logger) -> tuple[Any, ...]:
    return logger.level, logger.propagate, logger.disabled, list(logger.handlers), list(logger.filters)


def _restore(before: Levels) -> None:
    logging.disable(logging.NOTSET)
    for logger in _loggers():
        if logger not in before:  # created during the test
            logger.handlers[:] = []
            logger.filters[:] = []
            logger.setLevel(logging.NOTSET)
            logger.propagate, logger.disabled = True, False
        elif _settings(logger) != before[logger]:
            level, logger.propagate, logger.disabled, handlers, filters = before[logger]
            logger.setLevel(level)
            logger.handlers[:] = handlers
            logger.filters[:] = filters
