"""`support-service audit verify` as a process, and the audit entries of overrides."""

import json
import stat
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from support_service.platform.database.tables import audit_log
from tests.support.audit import sealed_entries
from tests.support.disks import small_disk

DAY = timedelta(days=1)

pytestmark = pytest.mark.usefixtures("processes")


async def test_overrides_are_recorded_and_verified(run, database):
    """Each change records its principal and the previous override, and verification finds a forged entry."""
    await run("timeline", "degrade", "payment", "--for", "90s", "--reason", "being restored")
    await run("timeline", "degrade", "payment", "--for", "1h", "--reason", "still")
    await run("timeline", "restore", "all")
    created, changed, cleared = await sealed_entries(database)
    assert [each.action for each in (created, changed, cleared)] == ["override.set", "override.set", "override.removed"]
    assert all(each.actor.startswith("operator ") and each.case_id is None for each in (created, changed, cleared))
    before, after = json.loads(changed.changes)["payment"]
    assert (before["reason"], after["reason"]) == ("being restored", "still")
    assert json.loads(created.changes)["payment"][0] is None
    assert json.loads(cleared.changes)["payment"] == [after, None]

    status, out, errors = await run("audit", "verify")
    verdict = json.loads(out)
    assert (status, errors) == (0, "")
    assert verdict == {"holds": True, "entries": 3, "head": cleared.hash.hex(), "flaw": None}
    status, out, _ = await run("audit", "verify", "--from-head", created.hash.hex())
    assert (status, json.loads(out)["holds"]) == (0, True)
    status, out, _ = await run("audit", "verify", "--from-head", "ab" * 32)
    assert (status, json.loads(out)["holds"]) == (1, False)

    async with database.transaction() as tx:
        await tx.execute(sa.text("DROP TRIGGER audit_log_stays"))
        await tx.execute(audit_log.update().where(audit_log.c.position == 2).values(actor="nobody"))
    status, out, _ = await run("audit", "verify")
    assert status == 1
    assert json.loads(out) == {
        "holds": False,
        "entries": 1,
        "head": created.hash.hex(),
        "flaw": "the entry at position 2 differs from the sealed one",
    }


async def test_actors_are_printed_with_the_number_of_their_changes(run, database):
    """The actor with most changes comes first; older changes do not count."""
    now = datetime.now(UTC)
    changes = [("script", "case.closed", 3, now), ("ann", "case.changed", 2, now), ("old", "case.closed", 9, now - DAY)]
    async with database.transaction() as tx:
        for actor, action, number, at in changes:
            entry = {"at": at, "actor": actor, "role": "agent", "action": action, "changes": "{}"}
            await tx.execute(audit_log.insert(), [entry] * number)
    status, out, errors = await run("audit", "actors", "--since", "15m")
    assert (status, errors) == (0, "")
    at = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"entries": 3, "action": "case.closed", "actor": "script", "role": "agent", "first": at, "last": at},
        {"entries": 2, "action": "case.changed", "actor": "ann", "role": "agent", "first": at, "last": at},
    ]


async def test_segment_is_exported_verified_and_detached(run, database, tmp_path):
    """The file is verified without the database, and the API says where the detached entries are."""
    for number in range(3):
        await run("timeline", "degrade", "payment", "--for", "90s", "--reason", f"reason {number}")
    entries = await sealed_entries(database)
    until = entries[2].at.isoformat().replace("+00:00", "Z")
    status, out, errors = await run("audit", "export", "--until", until, "audit.jsonl")
    shown = {"file": "audit.jsonl", "first": 1, "last": 2, "head": entries[1].hash.hex()}
    assert (status, json.loads(out), errors) == (0, {"summary": True, **shown}, "")
    assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600
    status, _, errors = await run("audit", "export", "--until", until, "audit.jsonl")
    assert (status, "audit.jsonl already" in errors) == (2, True)
    (tmp_path / "linked.jsonl.part").symlink_to("audit.jsonl")
    status, _, errors = await run("audit", "export", "--until", until, "linked.jsonl")
    assert (status, "linked.jsonl.part already" in errors) == (2, True)
    (tmp_path / "linked.jsonl.part").unlink()
    status, _, errors = await run("audit", "export", "--until", "2020-01-01", "other.jsonl")
    assert (status, "no sealed entry before" in errors) == (2, True)
    assert [path.name for path in tmp_path.glob("*.jsonl*")] == ["audit.jsonl"]
    status, out, _ = await run("audit", "verify", "audit.jsonl", "--from-head", entries[0].hash.hex())
    assert (status, json.loads(out)["holds"], json.loads(out)["last"]) == (0, True, 2)
    status, out, errors = await run("audit", "detach", "audit.jsonl")
    assert (status, json.loads(out)["last"], errors) == (0, 2, "")
    status, out, _ = await run("audit", "verify")
    assert (status, json.loads(out)["holds"], json.loads(out)["detached"]) == (0, True, 2)
    status, out, _ = await run("audit", "export", "--until", "2100-01-01", "next.jsonl")
    assert (status, json.loads(out)["first"], json.loads(out)["last"]) == (0, 3, 4)
    status, out, _ = await run("audit", "verify", "audit.jsonl", "next.jsonl")
    assert (status, [json.loads(line)["holds"] for line in out.splitlines()]) == (0, [True, True])
    status, out, _ = await run("audit", "verify", "next.jsonl", "audit.jsonl")
    assert (status, "does not go on" in out) == (1, True)
    status, _, errors = await run("audit", "verify", "audit.jsonl", "--from-head", "ab" * 32)
    assert (status, errors) == (1, "The expected head is in none of the files.\n")
    forged = (tmp_path / "audit.jsonl").read_text().replace("reason 0", "another reason")
    (tmp_path / "forged.jsonl").write_text(forged)
    for action in ("verify", "detach"):
        status, out, _ = await run("audit", action, "forged.jsonl")
        assert (status, json.loads(out)["flaw"]) == (1, "the changes at position 1 differ from the sealed ones")
    status, _, errors = await run("audit", "verify", "nowhere.jsonl")
    assert (status, errors) == (2, "support-service: Can't read nowhere.jsonl: No such file or directory\n")


async def test_export_to_a_full_disk_names_the_file(run, tmp_path):
    """And leaves nothing there."""
    await run("timeline", "degrade", "payment", "--for", "90s", "--reason", "being restored")
    with small_disk(tmp_path, 4096) as disk:
        (disk / "ballast").write_bytes(b"x" * 4096)
        status, _, errors = await run("audit", "export", "--until", "2100-01-01", "disk/audit.jsonl")
        assert errors == "support-service: [Errno 28] No space left on device: 'disk/audit.jsonl.part'\n"
        assert (status, [each.name for each in disk.iterdir()]) == (2, ["ballast"])
