"""`support-service backup` as a process, while the service is changed."""

import asyncio
import json
import os
import re
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from tests.support.calls import add_message, eventually, open_case, upload
from tests.support.crash.kills import print_figures
from tests.support.disks import small_disk
from tests.support.process import run, running
from tests.support.promql import ROOT
from tests.support.servers import free_port

pytestmark = pytest.mark.usefixtures("processes")

CASES = int(os.environ.get("RESTORE_CASES", "8"))
CHANGES = int(os.environ.get("RESTORE_CHANGES", "3"))  # of each case before the backup begins


@pytest.fixture
async def address(environment, tmp_path):
    port = free_port()
    async with running("serve", cwd=tmp_path, **environment, SUPPORT_PORT=str(port)) as service:
        await service.wait_until_ready(found := f"http://127.0.0.1:{port}")
        yield found


async def test_script_of_the_page_takes_a_backup_and_deletes_old_ones(address, environment, tmp_path):
    """It copies the database and the files of a running service, and the copy passes the check that the page names.

    A second run on the same day fails, and changes neither the copy nor its summary.
    """
    (script,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/operations/backup.md").read_text(), re.DOTALL)
    backups = tmp_path / "backups"
    backups.mkdir()
    for name in ("2026-01-01.db", "2026-01-01.json", "notes.txt"):
        (backups / name).touch()
        os.utime(backups / name, (0, 0))
    async with aiohttp.ClientSession(address) as session:
        await upload(session, await open_case(session), b"a file")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    async def run_script():
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", script, cwd=tmp_path, env=environment | {"PATH": path}
        )
        return await process.wait()

    assert await run_script() == 0
    (copy,) = backups.glob("*.db")
    assert json.loads(copy.with_suffix(".json").read_text())["rows"]["attachments"] == 1
    files = [file for file in (backups / "attachments").rglob("*") if file.is_file() and file.read_bytes() == b"a file"]
    assert len(files) == 1
    assert (backups / "notes.txt").exists()
    assert not (backups / "2026-01-01.json").exists()
    status, summary, _ = await run(
        "audit", "verify", cwd=tmp_path, **environment | {"SUPPORT_DATABASE_URL": f"sqlite:///{copy}"}
    )
    assert (status, summary["head"]) == (0, json.loads(copy.with_suffix(".json").read_text())["auditHead"])
    taken = [file.read_bytes() for file in (copy, copy.with_suffix(".json"))]
    assert await run_script() == 2
    assert [file.read_bytes() for file in (copy, copy.with_suffix(".json"))] == taken


async def test_backup_under_load_has_every_change_acknowledged_before_it(address, environment, tmp_path):
    """And of each case the first changes made meanwhile, without gaps. The copy is whole, and private."""
    acknowledged, stopping = {}, asyncio.Event()

    async def change(session):
        case = await open_case(session)
        while not stopping.is_set():
            await add_message(session, case)
            acknowledged[case["id"]] = acknowledged.get(case["id"], 0) + 1

    target = tmp_path / "backup.db"
    # A connection for each caller: those who wait for one of a pool may never get it.
    unlimited = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(address, connector=unlimited) as session, asyncio.TaskGroup() as group:
        for _ in range(CASES):
            group.create_task(change(session))
        await eventually(lambda: len(acknowledged) == CASES and min(acknowledged.values()) >= CHANGES, 120)
        before = dict(acknowledged)
        status, summary, errors = await run("backup", str(target), cwd=tmp_path, **environment)
        after = dict(acknowledged)
        stopping.set()
    assert (status, errors) == (0, "")
    with closing(sqlite3.connect(target)) as copy:
        found = dict(copy.execute("SELECT ticket_id, count(*) FROM messages GROUP BY ticket_id"))
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    missing = sum(max(0, number - found.get(case, 0)) for case, number in before.items())
    print_figures(
        f"acknowledged before the backup: {sum(before.values())}, missing in it: {missing}; "
        f"acknowledged while it ran: {sum(after.values()) - sum(before.values())}"
    )
    assert missing == 0
    assert (summary["rows"]["tickets"], summary["rows"]["messages"]) == (CASES, sum(found.values()))
    assert summary["bytes"] == target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.glob("backup*")) == ["backup.db"]


async def test_restore_of_a_backup_undoes_only_what_came_after_it(environment, tmp_path):
    """The short form of test_restore.py: no ETag of the undone time is given again."""
    database = Path(environment["SUPPORT_DATABASE_URL"].removeprefix("sqlite:///"))
    address = f"http://127.0.0.1:{(port := free_port())}"
    arguments = {"cwd": tmp_path, **environment, "SUPPORT_PORT": str(port)}
    async with running("serve", **arguments) as service, aiohttp.ClientSession(address) as session:
        await service.wait_until_ready(address)
        case = await open_case(session)
        kept = await add_message(session, case)
        assert (await run("backup", "one.db", **arguments))[0] == 0
        undone = (await session.get(f"/support/cases/{case['id']}")).headers["ETag"]
        for _ in range(2):
            await add_message(session, case)
        service.stop()
        await service.wait_for_exit()
    for former in database.parent.glob(f"{database.name}*"):
        former.unlink()
    (tmp_path / "one.db").rename(database)
    status, done, errors = await run("restored", **arguments)
    assert (status, errors) == (0, "")
    async with running("serve", **arguments) as service, aiohttp.ClientSession(address) as session:
        await service.wait_until_ready(address)
        async with session.get(f"/support/cases/{case['id']}") as response:
            assert [each["id"] for each in (await response.json())["messages"]] == [kept["id"]]
            assert int(response.headers["ETag"].strip('"')) >= done["versionBase"] > int(undone.strip('"')) + 2


async def test_backup_replaces_no_file(environment, tmp_path):
    """Neither a backup, nor what an interrupted one has left."""
    (tmp_path / "one.db").write_text("kept")
    status, _, errors = await run("backup", "one.db", cwd=tmp_path, **environment)
    assert (status, (tmp_path / "one.db").read_text()) == (2, "kept")
    assert errors == "support-service: There is a file one.db already: name a new one\n"
    (tmp_path / "two.db.part").touch()
    status, _, errors = await run("backup", "two.db", cwd=tmp_path, **environment)
    assert (status, "two.db.part already" in errors) == (2, True)


async def test_backup_of_a_damaged_database_gets_no_name(environment, tmp_path):
    """An audit log that was changed is damage, too."""
    path = environment["SUPPORT_DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE audit_head SET position = 3")
    status, summary, _ = await run("backup", "one.db", cwd=tmp_path, **environment)
    assert (status, bool(summary["flaw"])) == (1, True)
    assert [path.name for path in tmp_path.glob("one.db*")] == ["one.db.part"]


async def test_backup_to_a_full_disk_names_the_file(environment, tmp_path):
    """And leaves nothing there."""
    with small_disk(tmp_path, 100_000) as disk:
        status, _, errors = await run("backup", str(disk / "one.db"), cwd=tmp_path, **environment)
        assert (status, "one.db.part: database or disk is full" in errors) == (2, True), errors
        assert [*disk.iterdir()] == []


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_backup_of_postgresql_is_left_to_its_own_tools(environment, tmp_path):
    """The message names them."""
    status, _, errors = await run("backup", "one.db", cwd=tmp_path, **environment)
    assert (status, "pg_dump" in errors, (tmp_path / "one.db").exists()) == (2, True, False)
