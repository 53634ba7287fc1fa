"""The pages of the runbooks, and their queries and commands."""

import re

from tests.support.promql import ROOT

ENGLISH = ROOT / "runbooks"
VIETNAMESE = ENGLISH / "vi"
PAGES = sorted(path.name for path in ENGLISH.glob("*.md"))
BLOCK = re.compile(r"^ *```(sh|promql)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def page_text(folder, page):
    return (folder / page).read_text()


def blocks(page, kind, folder=ENGLISH):
    """The queries or the commands of a page, one a line."""
    found = [content for language, content in BLOCK.findall(page_text(folder, page)) if language == kind]
    return [line.strip() for content in found for line in content.splitlines() if line.strip()]
