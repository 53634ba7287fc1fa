"""`support-service agents`: the directory of the people who work on cases."""

import pytest

pytestmark = pytest.mark.usefixtures("processes")


async def listed(run):
    """Return the lines of the list, without its heading."""
    status, out, _ = await run("agents", "list")
    assert status == 0
    return [line.split() for line in out.splitlines()[1:]]


async def test_people_are_set_imported_listed_and_removed(run, tmp_path):
    """An empty cell leaves a field as it is."""
    assert await run("agents", "set", "lan", "--name", "Lan", "--team", "b", "--team", "a", "--role", "agent") == (
        0,
        "Added: lan\n",
        "",
    )
    assert (await run("agents", "set", "lan", "--name", "Lan-Anh"))[1] == "Changed: lan\n"
    file = tmp_path / "people.csv"
    file.write_text("id,name,teams,role\nlan,,c;a,\nminh@example.org,Minh,,supervisor\n")
    assert (await run("agents", "import", str(file)))[:2] == (0, "2 people, of whom 1 are new\n")
    assert await listed(run) == [
        ["lan", "Lan-Anh", "a,c", "agent", "-"],
        ["minh@example.org", "Minh", "-", "supervisor", "-"],
    ]
    assert (await run("agents", "remove", "lan"))[1] == "Removed: lan\n"
    status, out, errors = await run("agents", "remove", "lan")
    assert (status, out) == (2, "")
    assert "lan" in errors
    assert [each[0] for each in await listed(run)] == ["minh@example.org"]


async def test_wrong_file_changes_nothing(run, tmp_path):
    """The message names the line and the field."""
    file = tmp_path / "people.csv"
    for content, named in (
        ("name\nLan\n", "id, name, teams, role"),
        ("id,team\nlan,a\n", "id, name, teams, role"),
        ("id,role\nlan,agent\nminh,boss\n", "line 3: role of 'minh'"),
        ("id,role\nlan\n", "line 2: expected 2 cells"),
        ("id\n \n", "line 2: invalid id"),
    ):
        file.write_text(content)
        status, out, errors = await run("agents", "import", str(file))
        assert (status, out, named in errors) == (2, "", True), errors
    assert await listed(run) == []
