"""The pages of the runbooks: the table of each, its actions, its checks, and their queries and commands.

`python -m tests.support.runbooks.pages` prints the words of each page up to its first action.
"""

import re
import sys
from typing import NamedTuple

from tests.support.promql import ROOT

ENGLISH = ROOT / "runbooks"
VIETNAMESE = ENGLISH / "vi"
PAGES = sorted(path.name for path in ENGLISH.glob("*.md"))
BLOCK = re.compile(r"^ *```(sh|promql)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
ACTIONS = {ENGLISH: "## Actions", VIETNAMESE: "## Hành động"}
CHECKS = {ENGLISH: "## Checks", VIETNAMESE: "## Kiểm tra"}
ROW = re.compile(r"^\| (.+?) \| (.+?) \| \[(.+?)\]\((.+?)\) \|$", re.MULTILINE)


class Row(NamedTuple):
    """A row of the table of a page: what is seen, how to see it, and what to do."""

    sign: str
    command: str
    action: str
    target: str  # of the link: `#heading` of an action of the page, or another page


def page_text(folder, page):
    return (folder / page).read_text()


def blocks(page, kind, folder=ENGLISH):
    """The queries or the commands of a page, one a line."""
    found = [content for language, content in BLOCK.findall(page_text(folder, page)) if language == kind]
    return [line.strip() for content in found for line in content.splitlines() if line.strip()]


def rows(page, folder=ENGLISH):
    """The rows of the table of signs."""
    return [Row(*found) for found in ROW.findall(page_text(folder, page).partition("\n## ")[0])]


def section(page, heading, folder=ENGLISH):
    _, _, after = page_text(folder, page).partition(f"\n{heading}\n")
    return after.partition("\n## ")[0]


def actions(page, folder=ENGLISH):
    _, *found = re.split(r"^### ", section(page, ACTIONS[folder], folder), flags=re.MULTILINE)
    return {heading: text.strip() for heading, _, text in (each.partition("\n") for each in found)}


def checks(page, folder=ENGLISH):
    """The text of each check; check 1 is the first."""
    _, *found = re.split(r"^\d+\. ", section(page, CHECKS[folder], folder), flags=re.MULTILINE)
    return found


def anchor(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def words_to_first_action(page, folder=ENGLISH):
    """The number of words from the beginning of a page to the end of the first action that its table names."""
    begin, action, _ = page_text(folder, page).partition(f"[{rows(page, folder)[0].action}]")
    return len((begin + action).split())


if __name__ == "__main__":
    sys.stdout.writelines(
        f"{words_to_first_action(each):3} {words_to_first_action(each, VIETNAMESE):3} {each}\n"
        for each in PAGES
        if actions(each)
    )
