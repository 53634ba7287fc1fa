"""What commands print on a terminal: sentences and tables, and the progress on stderr. Elsewhere they print JSON."""

import shutil

import pytest

from tests.support.audit import sealed_entries

pytestmark = pytest.mark.usefixtures("processes")


async def test_verdict_on_the_audit_log(database, on_terminal):
    """It names the head, which the reader stores elsewhere; with another head it says that the chain is broken."""
    assert (await on_terminal("timeline", "degrade", "payment", "--for", "90s", "--reason", "being restored"))[0] == 0
    (entry,) = await sealed_entries(database)
    status, printed, _ = await on_terminal("audit", "verify")
    intact = "The chain is intact: 1 entries. Store its head outside of the database:"
    assert (status, printed) == (0, f"{intact} {entry.hash.hex()}\n")
    status, printed, _ = await on_terminal("audit", "verify", "--from-head", "ab" * 32)
    assert status == 1
    assert printed.startswith("The chain is broken: ")


async def test_comparison_of_a_copy(on_terminal, sqlite_template, tmp_path, postgres, postgres_template):
    """A table of rows and hashes, the two audit logs, and whether the service may start on the copy."""
    shutil.copy(sqlite_template, tmp_path / "source.db")
    target = postgres.create_database(postgres_template)
    try:
        source = f"sqlite:///{tmp_path / 'source.db'}"
        status, printed, errors = await on_terminal("database", "copy", source, postgres.url(target))
    finally:
        postgres.drop_database(target)
    assert status == 0, errors
    heading, *lines = printed.splitlines()
    assert " ".join(heading.split()) == "TABLE ROWS HASH ROWS OF THE COPY HASH OF THE COPY"
    (table,) = [line for line in lines if line.startswith("tickets ")]
    assert table.split()[1] == table.split()[3] == "0"
    assert table.endswith(" equal")
    assert [line.partition(": ")[0] for line in lines[-3:-1]] == ["Audit log of the source", "Audit log of the copy"]
    assert lines[-1] == "Both databases have the same rows. The service may start on the copy."
