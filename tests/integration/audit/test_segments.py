"""Segments of the audit log: a file proves itself, and the chain goes on without the entries that it has."""

import io
import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from support_service.core.errors import SupportError
from support_service.platform.audit import chain, entry_rows, log
from support_service.platform.audit.chain import GENESIS, ChainHead
from support_service.platform.audit.segments import detach, read_segment, write_segment
from support_service.platform.audit.verify import VerifyLimits, verify_chain, verify_part
from support_service.platform.database.tables import audit_head, audit_log
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, unit_of_work
from tests.conftest import both_databases

AT = datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=UTC)
ENTRIES, CUT = 10, 6  # entries of the log, and of the segment


async def fill(database, numbers=range(ENTRIES)):
    """Record and seal an entry a day."""
    for number in numbers:
        async with unit_of_work(database, SYSTEM_ORIGIN) as work:
            changes = {"subject": (f"before {number}", f"đ {number}")}
            await log.record(work, f"case-{number % 3}", "case.changed", AT + timedelta(days=number), changes)
            await log.seal_all(work.tx)


@pytest.fixture
async def sealed_log(database):
    await fill(database)
    return database


async def exported(database, days=CUT, **limits):
    """Return the file of a segment with the entries of the first days."""
    file = io.BytesIO()
    await write_segment(database, file, AT + timedelta(days=days), limits=VerifyLimits(**limits))
    return file.getvalue()


def read(file, noted=None):
    return read_segment(io.BytesIO(file), noted)


def as_file(lines):
    return read(b"\n".join(json.dumps(line).encode() for line in lines))


async def interrupted_detachment(database, segment, monkeypatch):
    """Begin to detach a segment; the process ends before entries are deleted."""

    async def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(entry_rows, "delete_between", fail)
        with pytest.raises(KeyboardInterrupt):
            await detach(database, SYSTEM_ORIGIN, segment)


async def positions(database):
    found = await database.fetch_all(sa.select(audit_log.c.position).order_by(audit_log.c.position))
    return [row.position for row in found]


@both_databases
@pytest.mark.parametrize("page_size", [1, 4, 1000])
async def test_segment_has_the_entries_before_a_time(sealed_log, page_size):
    """Whatever the pages in which the log is read. Its head is the hash of its last entry."""
    file = await exported(sealed_log, page_size=page_size)
    entries = await entry_rows.read_sealed(sealed_log, 0, CUT)
    found = read(file)
    assert (found.start, found.head) == (ChainHead(0, GENESIS), entries[-1].head_after)
    assert (found.flaw, found.erased) == (None, 0)
    assert read(file, entries[2].hash).flaw is None
    assert read(file, b"x" * 32).flaw == "the expected head is not in the file"
    lines = [json.loads(line) for line in file.splitlines()]
    assert [line["position"] for line in lines] == [0, *range(1, CUT + 1), CUT]
    assert json.loads(lines[1]["changes"]) == {"subject": ["before 0", "đ 0"]}


async def test_every_alteration_of_a_file_is_found(sealed_log):
    """A changed member, and a line that is missing, moved, doubled or not JSON."""
    lines = (await exported(sealed_log)).splitlines(keepends=True)
    altered = {}
    for number, line in enumerate(lines):
        for name, value in json.loads(line).items():
            other = [None] if isinstance(value, bool) else [value + 1 if isinstance(value, int) else f"{value}0", None]
            for each in other:
                if each == value:
                    continue
                changed = json.dumps(json.loads(line) | {name: each}).encode() + b"\n"
                altered[f"{name} of line {number} is {each}"] = [*lines[:number], changed, *lines[number + 1 :]]
        altered[f"no line {number}"] = [*lines[:number], *lines[number + 1 :]]
        altered[f"line {number} twice"] = [*lines[:number], line, *lines[number:]]
        altered[f"line {number} is no JSON"] = [*lines[:number], b"[\n", *lines[number + 1 :]]
    altered["two lines change places"] = [*lines[:2], lines[3], lines[2], *lines[4:]]
    altered["nothing"] = []
    assert len(altered) > 80
    assert [what for what, forged in altered.items() if read(b"".join(forged)).flaw is None] == []


async def test_member_of_a_wrong_kind_is_a_flaw(sealed_log):
    """In each member of each line."""
    lines = [json.loads(line) for line in (await exported(sealed_log)).splitlines()]
    values = (False, 0, "", [], {}, float("inf"), float("-inf"), float("nan"), "\ud800")
    for number, line in enumerate(lines):
        for name, value in itertools.product({*line} - {"end"}, values):
            if line[name] != value:
                altered = [*lines[:number], line | {name: value}, *lines[number + 1 :]]
                assert as_file(altered).flaw is not None, (number, name, value)


@pytest.mark.parametrize("interrupted", [False, True])
async def test_file_that_lacks_changes_detaches_nothing(sealed_log, interrupted, monkeypatch):
    """Without changes and salt an entry verifies as an erased one. Only the database knows that it is none."""
    file = await exported(sealed_log)
    if interrupted:
        await interrupted_detachment(sealed_log, read(file), monkeypatch)
    left = await positions(sealed_log)
    lines = [json.loads(line) for line in file.splitlines()]
    lines[3] |= {"changes": None, "salt": None}
    stripped = as_file(lines)
    assert (stripped.flaw, stripped.erased) == (None, 1)
    with pytest.raises(SupportError, match="lacks the changes at position 3"):
        await detach(sealed_log, SYSTEM_ORIGIN, stripped)
    assert await positions(sealed_log) == left


async def test_file_without_erased_changes_is_detached(sealed_log):
    """The log lacks them as well. The entry that explains them is newer, so that the file alone does not have it."""
    async with unit_of_work(sealed_log, SYSTEM_ORIGIN) as work:
        await log.erase_cases(work, ["case-1"], AT + timedelta(days=ENTRIES))
    assert read(await exported(sealed_log, days=ENTRIES + 1)).erased == 0
    segment = read(await exported(sealed_log))
    assert (segment.without_changes, segment.erased) == ({2, 5}, 2)
    await detach(sealed_log, SYSTEM_ORIGIN, segment)
    assert (await verify_chain(sealed_log)).flaw is None


async def test_entry_with_changes_of_a_wrong_form_is_a_flaw(sealed_log):
    """Also if the hashes of the file are right, which anyone can compute."""
    await exported(sealed_log)
    (first,) = await entry_rows.read_sealed(sealed_log, 0, 1)
    for changes in ("[", "{}", '{"erasedPositions":[null]}', '{"erasedPositions":[null,[Infinity]]}'):
        placed = first._replace(action="case.erased", changes=changes, position=None)
        forged = chain.seal_entry(ChainHead(0, GENESIS), placed, b"salt")
        values = {name: value.hex() if isinstance(value, bytes) else value for name, value in forged._asdict().items()}
        start = {"format": "support-service audit segment 1", "position": 0, "hash": GENESIS.hex()}
        lines = [start, values | {"at": "2026-01-01T12:00:00.000001Z"}]
        assert as_file(lines).flaw == "the line after position 0 is no entry"


@both_databases
async def test_detached_entries_are_deleted_and_the_chain_goes_on(sealed_log):
    """An entry records it. The next segment begins where the first one ends."""
    first = read(await exported(sealed_log))
    whole = (await verify_chain(sealed_log)).head
    await detach(sealed_log, SYSTEM_ORIGIN, first)
    assert await positions(sealed_log) == [*range(CUT + 1, ENTRIES + 2)]
    verdict = await verify_chain(sealed_log, whole.hash)
    assert (verdict.flaw, verdict.head.position) == (None, ENTRIES + 1)
    assert "detached segment" in (await verify_chain(sealed_log, b"x" * 32)).flaw
    (record,) = await entry_rows.read_sealed(sealed_log, ENTRIES, 1)
    assert (record.action, record.detached_head()) == ("audit.detached", first.head)
    await fill(sealed_log, range(ENTRIES, ENTRIES + 3))
    second = read(await exported(sealed_log, days=ENTRIES + 1))
    assert (second.start, second.flaw) == (first.head, None)
    await detach(sealed_log, SYSTEM_ORIGIN, second)
    assert (await verify_chain(sealed_log)).flaw is None
    assert (await exported(sealed_log, days=0)).count(b"\n") == 2  # no entry is that old


async def test_part_of_a_detached_range_is_answered_from_its_end(sealed_log):
    """The part that was asked for begins after the detached entries, and says so."""
    segment = read(await exported(sealed_log))
    await detach(sealed_log, SYSTEM_ORIGIN, segment)
    for after in (0, 3, CUT):
        part = await verify_part(sealed_log, after, 2)
        assert (part.start, part.detached, part.flaw) == (CUT, segment.head, None)
        assert part.head.position == CUT + 2
    assert (await verify_part(sealed_log, None, 1000)).start == CUT


@both_databases
@pytest.mark.parametrize(
    "verify",
    [
        lambda database: verify_chain(database, limits=VerifyLimits(page_size=2)),
        lambda database: verify_part(database, 0, 1000, VerifyLimits(page_size=2)),
        lambda database: verify_part(database, 2, 1000),
    ],
    ids=["chain", "part from the beginning", "part"],
)
async def test_entries_that_are_detached_during_a_verification_are_no_flaw(sealed_log, monkeypatch, verify):
    """The remaining entries are verified again."""
    segment, read_sealed, pages = read(await exported(sealed_log)), entry_rows.read_sealed, []

    async def read_sealed_then_detach(reader, *arguments):
        page = await read_sealed(reader, *arguments)
        pages.append(page)
        if len(pages) == 1:
            await detach(sealed_log, SYSTEM_ORIGIN, segment)
        return page

    monkeypatch.setattr(entry_rows, "read_sealed", read_sealed_then_detach)
    found = await verify(sealed_log)
    assert (found.flaw, found.head.position) == (None, ENTRIES + 1)


async def test_interrupted_detachment_is_continued(sealed_log, monkeypatch):
    """The entries that are left are no flaw, and the same file deletes them."""
    segment = read(await exported(sealed_log))
    await interrupted_detachment(sealed_log, segment, monkeypatch)
    assert await positions(sealed_log) == [*range(1, ENTRIES + 2)]
    assert (await verify_chain(sealed_log)).flaw is None
    await detach(sealed_log, SYSTEM_ORIGIN, segment)
    assert await positions(sealed_log) == [*range(CUT + 1, ENTRIES + 2)]
    assert (await verify_chain(sealed_log)).flaw is None


async def test_file_of_another_log_detaches_nothing(sealed_log):
    """Nor does a file whose entries begin elsewhere."""
    segment = read(await exported(sealed_log))
    other = ChainHead(CUT, b"x" * 32)
    for forged, message in (
        ({"head": other}, "is not the last one of the file"),
        ({"head": ChainHead(ENTRIES + 9, b"x" * 32)}, "is not the last one of the file"),
        ({"start": ChainHead(2, b"x" * 32)}, "begins after position 2"),
    ):
        with pytest.raises(SupportError, match=message):
            await detach(sealed_log, SYSTEM_ORIGIN, replace(segment, **forged))
    assert await positions(sealed_log) == [*range(1, ENTRIES + 1)]


@both_databases
async def test_database_refuses_to_delete_entries_that_are_not_detached(sealed_log):
    """Also after others were detached."""
    await detach(sealed_log, SYSTEM_ORIGIN, read(await exported(sealed_log)))
    with pytest.raises(Exception, match=r"append-only|RestrictViolation"):
        async with sealed_log.transaction() as tx:
            await entry_rows.delete_between(tx, CUT, CUT + 1)
    assert CUT + 1 in await positions(sealed_log)


async def test_detachment_without_a_record_is_a_flaw(sealed_log):
    """A user who moves the beginning of the chain past the service leaves no entry in it."""
    segment = read(await exported(sealed_log))
    moved = {"detached_position": segment.head.position, "detached_hash": segment.head.hash}
    async with sealed_log.transaction() as tx:
        await tx.execute(audit_head.update().values(moved))
        await entry_rows.delete_between(tx, 0, CUT)
    assert (await verify_chain(sealed_log)).flaw == (
        f"the entries up to position {CUT} are missing, and no entry records that they were detached"
    )
