"""Files that are deleted or replaced while the service has them open: no write that would be lost is acknowledged."""

import io
import shutil
from pathlib import Path

import pytest

from support_service.commands.runtime import run_on_database
from support_service.core.errors import Unavailable
from support_service.platform.database.tables import attachment_ledger
from tests.support.calls import eventually, expect_json, expect_problem, open_case, read_case, upload
from tests.support.service import own_client

client = own_client

NEW_CASE = {"subject": "A", "channel": "email"}


@pytest.fixture
def path(database_url):
    return Path(database_url.removeprefix("sqlite:///"))


def delete(path):
    path.unlink()


def delete_with_log(path):
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def delete_log(path):
    path.with_name(f"{path.name}-wal").unlink()


def restore_backup(path):
    copy = path.with_name("backup.db")
    shutil.copy(path, copy)
    copy.replace(path)


LOSSES = pytest.mark.parametrize("lose", [delete, delete_with_log, delete_log, restore_backup])


@LOSSES
async def test_writes_to_a_lost_database_are_refused(client, path, caplog, lose):
    """Each write is refused with the reason, readiness tells it, it is logged once, and open files are still read."""
    case = await open_case(client)
    messages = f"/support/cases/{case['id']}/messages"
    lose(path)
    for key in ("", "key-1"):
        headers = {"Idempotency-Key": key} if key else {}
        refused = client.post("/support/cases", json=NEW_CASE, headers=headers)
        await expect_problem(refused, 503, "database_file_changed")
        body = {"authorType": "agent", "message": "Hello"}
        await expect_problem(client.post(messages, json=body, headers=headers), 503, "database_file_changed")
    body = await expect_json(client.get("/readyz"), 503)
    assert (body["status"], body["database"]) == ("unavailable", "database_file_changed")
    assert await read_case(client, case) == case | {"timeline": []}
    await eventually(lambda: "was deleted or replaced" in caplog.text)


async def test_a_database_that_is_moved_back_is_used_again(client, path):
    """The same file under its name is the same database."""
    case = await open_case(client)
    away = path.with_name("away.db")
    path.rename(away)
    await expect_problem(client.post("/support/cases", json=NEW_CASE), 503, "database_file_changed")
    away.rename(path)
    await open_case(client)
    assert await read_case(client, case) == case | {"timeline": []}
    await expect_json(client.get("/readyz"))


@LOSSES
def test_a_command_that_writes_to_a_lost_database_fails(settings, path, lose):
    """A command says so too, and does not report a change that is lost."""

    async def work(database):
        lose(path)
        async with database.transaction() as tx:
            await tx.execute(attachment_ledger.update().values(files=1))

    with pytest.raises(Unavailable, match="was deleted or replaced"):
        run_on_database(settings, work)
    assert path.exists() == (lose in (delete_log, restore_backup))


async def test_uploads_to_a_deleted_attachment_folder_are_refused(client, attachment_dir):
    """The folder is not created again: an upload is refused, and leaves no row."""
    case = await open_case(client)
    await upload(client, case)
    shutil.rmtree(attachment_dir)
    for size in (10, 1024 * 1024):
        response = await client.post(f"/support/cases/{case['id']}/attachments", data={"file": io.BytesIO(b"a" * size)})
        await expect_problem(response, 503, "storage_unavailable")
    assert len((await read_case(client, case))["attachments"]) == 1
    assert not attachment_dir.exists()
