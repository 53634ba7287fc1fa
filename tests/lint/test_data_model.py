"""docs/data-model.md has every table, and its pictures show the foreign keys and columns that exist."""

import re
from pathlib import Path

from support_service.platform.database.tables import metadata

PAGE = (Path(__file__).parents[2] / "docs" / "data-model.md").read_text()
LINES = re.findall(r"^  (\w+) \S+(--|\.\.)\S+ (\w+) : ", PAGE, re.MULTILINE)
ENTITIES = dict(re.findall(r"^  (\w+) \{\n(.*?)\n  \}", PAGE, re.MULTILINE | re.DOTALL))


def test_every_table_has_a_line():
    """And no other."""
    first_cells = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", PAGE, re.MULTILINE)
    named = [name for cell in first_cells for name in re.findall(r"\w+", cell)]
    assert sorted(named) == sorted(metadata.tables)


def test_solid_lines_are_the_foreign_keys():
    """From the table that is referred to, to the table that refers."""
    solid = {(one, other) for one, line, other in LINES if line == "--"}
    keys = {(key.column.table.name, table.name) for table in metadata.tables.values() for key in table.foreign_keys}
    assert solid == keys


def test_page_counts_its_pictures():
    """In words, in its first sentence."""
    words = {"two": 2, "three": 3, "four": 4, "five": 5}
    assert words[re.search(r"in (\w+) pictures", PAGE)[1]] == PAGE.count("```mermaid")


def test_pictures_name_tables_and_columns_that_exist():
    """Each line joins two tables; each entity lists some of its columns."""
    assert {name for one, _, other in LINES for name in (one, other)} <= metadata.tables.keys()
    assert len(ENTITIES) == 5
    for name, described in ENTITIES.items():
        columns = [line.split()[1] for line in described.splitlines()]
        assert [column for column in columns if column not in metadata.tables[name].columns] == []
