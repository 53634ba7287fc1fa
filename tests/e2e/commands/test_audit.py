"""`support-service audit verify` as a process, and the audit entries of overrides."""

import json

import pytest
import sqlalchemy as sa

from support_service.platform.audit import entry_rows, log
from support_service.platform.database.tables import audit_log
from tests.conftest import both_databases
from tests.support.process import running

pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture
def command(tmp_path, database_url):
    """Run a command; return its status, output and errors."""

    async def run(*arguments):
        async with running(*arguments, cwd=tmp_path, SUPPORT_DATABASE_URL=database_url) as process:
            return await process.wait_for_exit()

    return run


async def sealed_entries(database):
    """Seal and return every entry."""
    async with database.transaction() as tx:
        await log.seal_all(tx)
    return await entry_rows.read_sealed(database, 0, 100)


@both_databases
async def test_overrides_are_recorded_and_verified(command, database, backend):
    """Each change records its principal and the previous override, and verification finds a forged entry."""
    await command("timeline", "degrade", "payment", "--for", "90s", "--reason", "being restored")
    await command("timeline", "degrade", "payment", "--for", "1h", "--reason", "still")
    await command("timeline", "restore", "all")
    created, changed, cleared = await sealed_entries(database)
    assert [each.action for each in (created, changed, cleared)] == ["override.set", "override.set", "override.removed"]
    assert all(each.actor.startswith("operator ") and each.case_id is None for each in (created, changed, cleared))
    before, after = json.loads(changed.changes)["payment"]
    assert (before["reason"], after["reason"]) == ("being restored", "still")
    assert json.loads(created.changes)["payment"][0] is None
    assert json.loads(cleared.changes)["payment"] == [after, None]

    status, out, errors = await command("audit", "verify")
    verdict = json.loads(out)
    assert (status, errors) == (0, "")
    assert verdict == {"holds": True, "entries": 3, "head": cleared.hash.hex(), "flaw": None}
    status, out, _ = await command("audit", "verify", "--from-head", created.hash.hex())
    assert (status, json.loads(out)["holds"]) == (0, True)
    status, out, _ = await command("audit", "verify", "--from-head", "ab" * 32)
    assert (status, json.loads(out)["holds"]) == (1, False)

    on = " ON audit_log" if backend == "postgresql" else ""
    async with database.transaction() as tx:
        await tx.execute(sa.text(f"DROP TRIGGER audit_log_stays{on}"))
        await tx.execute(audit_log.update().where(audit_log.c.position == 2).values(actor="nobody"))
    status, out, _ = await command("audit", "verify")
    assert status == 1
    assert json.loads(out) == {
        "holds": False,
        "entries": 1,
        "head": created.hash.hex(),
        "flaw": "the entry at position 2 differs from the sealed one",
    }


@pytest.mark.parametrize("head", ["", "abc", "g" * 64])
async def test_invalid_head_is_refused(command, head):
    """A head has 64 hexadecimal digits."""
    status, out, errors = await command("audit", "verify", "--from-head", head)
    assert (status, out) == (2, "")
    assert errors.startswith("support-service: invalid --from-head ")
    assert errors.count("\n") == 1
