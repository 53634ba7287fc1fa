"""Scripts of the console are served without the comments that have lines to themselves."""

import re

from support_service import console
from support_service.console.assets import load_assets
from tests.support.each import each_row
from tests.support.promql import ROOT

STATIC = ROOT / "src" / console.__name__.replace(".", "/") / "static"
SCRIPTS = sorted(path for path in load_assets().by_path if path.endswith(".js"))
COMMENTS = re.compile(rb"(?:\s*/\*\*(?:(?!/\*\*).)*\*/)*\s*", re.DOTALL)


@each_row("path", SCRIPTS)
def test_scripts_have_the_lines_of_their_files_without_comments(path):
    """Each line has its number, so that an error names that of the file. Others' modules have their licences."""
    served, file = load_assets().by_path[path].body, (STATIC / path).read_bytes()
    if path.startswith("vendor/"):
        assert served == file
        return
    pairs = list(zip(served.split(b"\n"), file.split(b"\n"), strict=True))
    left_out = [original for line, original in pairs if line != original]
    assert left_out
    assert all(line in (b"", original) for line, original in pairs)
    assert COMMENTS.fullmatch(b"\n".join(left_out))
