"""A start imports what its settings ask for and nothing else: each of these packages costs every start 10 to 150 ms."""

import json
import subprocess
import sys

import pytest

from tests.support.command_list import EVERY_COMMAND
from tests.support.process import START_TIMEOUT, environment

pytestmark = pytest.mark.usefixtures("processes")

# A service on a migrated database, up to its first answer; prints every module that is loaded then.
SERVE = """
import asyncio, os, sys, urllib.request

from support_service import server
from support_service.platform.database import migrate
from support_service.platform.settings import Settings

settings = Settings.load_to_serve(os.environ)
assert migrate.upgrade(settings.database.url) == "newest"

async def serve():
    app, guard = server.build_app(settings)
    async with server.open_server(app, settings.server, guard=guard) as address:
        await asyncio.to_thread(urllib.request.urlopen, address + "/livez")
        print(*sys.modules)

asyncio.run(serve())
"""
# Commands one after another; prints the first line and the modules that are loaded then of each.
HELP = """
import contextlib, io, json, sys
before, found = set(sys.modules), []
from support_service.cli import main
for arguments in json.loads(sys.argv.pop()):
    sys.argv[1:] = arguments.split()
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main()
    found.append((out.getvalue().partition("\\n")[0], sorted(sys.modules.keys() - before)))
print(json.dumps(found))
"""
NOWHERE = "127.0.0.1:1"
JWT = {
    "SUPPORT_AUTH": "jwt",
    "SUPPORT_JWT_ISSUER": "issuer",
    "SUPPORT_JWT_AUDIENCE": "support",
    "SUPPORT_JWT_KEYS": f"http://{NOWHERE}/jwks.json",
}
# Settings that need no server to start, and packages that they load.
CHOSEN = [
    (JWT, {"cryptography", "joserfc"}),
    ({"OTEL_METRICS_EXPORTER": "otlp"}, {"google.protobuf", "opentelemetry.exporter.otlp"}),
    ({"OTEL_TRACES_EXPORTER": "console"}, {"opentelemetry.instrumentation", "opentelemetry.sdk.trace", "packaging"}),
    ({"SUPPORT_REDIS_URL": f"redis://{NOWHERE}"}, {"redis"}),
    ({"SUPPORT_S3_BUCKET": "files"}, {"obstore"}),
]
# Modules beside `commands` and `core` that arguments and signatures need. They import only the standard library.
SMALL = {"cases.model.files", "events.broker.base", "platform.access.timings", "reports.measures"}
SMALL_PACKAGES = {"cases", "cases.model", "events", "events.broker", "platform", "platform.access", "reports"}
OPTIONAL = set[str]().union(*(packages for _, packages in CHOSEN)) | {
    "alembic",
    "asyncpg",
    "htpy",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.orm",
}


def output_of(program, *arguments, cwd=None, **variables):
    """Run a program of Python, which must succeed; return what it prints."""
    options = {"cwd": cwd, "env": environment(**variables), "capture_output": True, "text": True}
    ended = subprocess.run([sys.executable, "-c", program, *arguments], check=False, timeout=START_TIMEOUT, **options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def loaded(sqlite_template, tmp_path):
    """Serve with some settings; gives the optional packages that were imported."""

    def serve(**variables):
        (tmp_path / "support.db").write_bytes(sqlite_template.read_bytes())
        variables = {"SUPPORT_DATABASE_URL": "sqlite:///support.db", "SUPPORT_PORT": "0"} | variables
        return OPTIONAL & set(output_of(SERVE, cwd=tmp_path, **variables).split())

    return serve


def test_default_settings_load_no_optional_package(loaded):
    """Other databases, caches, storages, exporters and key libraries are not imported."""
    assert loaded() == set()


def test_settings_load_their_packages_at_the_start(loaded):
    """Before the first request. No two settings have a package in common, so that one start shows it for all."""
    chosen = [packages for _, packages in CHOSEN]
    assert sum(map(len, chosen)) == len(set[str]().union(*chosen))
    settings = {name: value for variables, _ in CHOSEN for name, value in variables.items()}
    assert loaded(**settings) >= set[str]().union(*chosen)


def test_help_and_version_load_only_the_standard_library_and_the_grammar():
    """They are fast, because no command loads a third-party package, an event loop or a command for its help."""
    commands = ["--version", *(f"{command} --help".strip() for command in EVERY_COMMAND)]
    printed = output_of(HELP, json.dumps(commands))
    for command, (line, loaded) in zip(commands, json.loads(printed), strict=True):
        name = command.removesuffix("--help").strip()
        assert line.startswith("support-service " if command == "--version" else f"usage: support-service {name}"), line
        assert {module.partition(".")[0] for module in loaded} - sys.stdlib_module_names == {"support_service"}, command
        assert {"asyncio", "ssl", "sqlite3", "importlib.metadata"}.isdisjoint(loaded), command
        own = {module.removeprefix("support_service.") for module in loaded if module.startswith("support_service.")}
        beside = {module for module in own if module.partition(".")[0] not in ("cli", "commands", "core")}
        assert beside <= SMALL | SMALL_PACKAGES, command
